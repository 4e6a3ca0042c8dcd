"""The project's own rules: which way imports point, what importing loads, and what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fewbit

SOURCE = Path(fewbit.__file__).resolve().parent

# A module may import from its own layer and from those below it.
LAYERS = (
    {"errors"},
    {"spec", "progress", "extras"},
    {"callables"},
    {"core", "targets", "measure", "data", "demo"},
    {"graph"},
    {"runtimes"},
    {"capture"},
    {"plan"},
    {"stages", "formats", "report", "torchgraph", "search"},
    {"flow"},
    {"torch"},
    {"testing"},
    {"cli", "__main__", "__init__"},
)


def layer(module: str) -> int:
    name = module.removeprefix("fewbit").lstrip(".").split(".")[0] or "__init__"
    return next(i for i, names in enumerate(LAYERS) if name in names)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fewbit":
            names = [node.module] if node.module != "fewbit" else [f"fewbit.{a.name}" for a in node.names]
            found |= {
                n for n in names if (SOURCE / n.split(".")[1]).exists() or (SOURCE / f"{n.split('.')[1]}.py").exists()
            }
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("fewbit.")}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    own = ".".join(["fewbit", *path.relative_to(SOURCE).with_suffix("").parts])
    if own == "fewbit.__init__":
        return  # it names the public functions, and imports them on first use
    for target in imports(path):
        assert layer(target) <= layer(own), f"{own} imports {target}, which is above it"


@pytest.mark.parametrize("path", sorted((SOURCE / "core").rglob("*.py")), ids=lambda p: p.stem)
def test_core_knows_nothing_above_spec(path: Path) -> None:
    assert all(target.split(".")[1] in ("core", "spec", "errors") for target in imports(path))


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_loads_nothing_heavy() -> None:
    assert not loaded_by("import fewbit") & {
        "numpy",
        "onnx",
        "onnx_ir",
        "onnxruntime",
        "scipy",
        "torch",
        "typer",
        "rich",
        "matplotlib",
        "jinja2",
    }
    heavy = {"numpy", "onnx", "onnxruntime", "scipy", "torch", "pydantic", "matplotlib"}
    assert not loaded_by("import fewbit.cli.main") & heavy
    assert not loaded_by("import fewbit.flow.quantize") & {"scipy", "torch", "tensorflow", "pandas", "matplotlib"}
    assert not loaded_by("import fewbit.report.auto, fewbit.report.html") & {"matplotlib", "jinja2"}
    runtimes = {"ai_edge_litert", "flatbuffers", "onnxruntime", "torch"}
    assert not loaded_by("import fewbit.runtimes.table, fewbit.flow.faces") & runtimes


def test_public_names() -> None:
    assert fewbit.__all__ == [
        "Plan",
        "Recipe",
        "__version__",
        "auto",
        "benchmark",
        "compare",
        "evaluate",
        "inspect",
        "load",
        "quantize",
        "tune",
    ]
    for name in fewbit.__all__:
        assert getattr(fewbit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = fewbit.quantise


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
