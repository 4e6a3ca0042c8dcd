"""Files that would run code when they are loaded, and damaged ones: one clear error, and nothing has run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fewbit
from fewbit.errors import ModelError
from fewbit.formats.torch.quiet import quiet
from fewbit.formats.torch.safety import check_program
from tests.formats.torch.networks import agree, rows

PROGRAM = "program/models/model.json"


class Attack:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A place where only code from a file puts something."""
    return tmp_path / "mark"


@pytest.fixture
def rewrite(small: tuple[Any, Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes the exported program again with some members replaced or added; what they are made of is given by name."""

    def write(**members: bytes | Callable[[bytes], bytes]) -> Path:
        path, left = tmp_path / "changed.pt2", dict(members)
        with zipfile.ZipFile(small[1] / "program.pt2") as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                change = left.pop(name, None)
                content = old.read(name)
                new.writestr(name, content if change is None else change(content) if callable(change) else change)
            for name, change in left.items():
                assert isinstance(change, bytes)
                new.writestr(name, change)
        return path

    return write


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def graph(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """A change of the graph in a program."""

    def apply(content: bytes) -> bytes:
        parsed = json.loads(content)
        change(parsed)
        return json.dumps(parsed).encode()

    return apply


def size(text: str) -> Callable[[bytes], bytes]:
    """The program with this as the first size of its input."""

    def change(parsed: Any) -> None:
        parsed["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = text

    return graph(change)


def refused(path: Path, says: str, mark: Path) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        fewbit.load(path, example_inputs=None)
    assert len(str(caught.value).splitlines()) == 1 and not mark.exists()


def test_the_program_as_it_is_passes(small: tuple[Any, Path], rewrite: Callable[..., Path]) -> None:
    agree(fewbit.load(rewrite()), small[0], rows(3))


def test_a_pickle_that_runs_code(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "attack.pt"
    path.write_bytes(saved({"weight": Attack(mark)}))
    refused(
        path,
        r"attack\.pt is refused: unpickling it would run Python code, it refers to (posix|nt)\.mkdir; save the",
        mark,
    )
    with pytest.raises(ModelError, match="holds a NoneType under 'weight'"):
        fewbit.load(path, allow_pickle=True)
    assert mark.exists()


def test_example_inputs_that_run_code(rewrite: Callable[..., Path], mark: Path) -> None:
    path = rewrite(**{"program/data/sample_inputs/model.pt": saved(((Attack(mark),), {}))})
    refused(path, r"\(program/data/sample_inputs/model\.pt\) is refused: unpickling it would run Python code", mark)
    with quiet():
        torch.export.load(io.BytesIO(path.read_bytes()))
    assert mark.exists()  # torch itself unpickles it


def test_weights_and_constants_that_run_code(rewrite: Callable[..., Path], mark: Path) -> None:
    def pickled(content: bytes) -> bytes:
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        return json.dumps(config).encode()

    weights = "program/data/weights/"
    path = rewrite(**{f"{weights}model_weights_config.json": pickled, f"{weights}weight_0": saved(Attack(mark))})
    refused(path, r"\(program/data/weights/weight_0\) is refused: unpickling", mark)
    for name in ("program/data/constants/opaque_obj_0", "program/data/constants/custom_obj_0"):
        refused(
            rewrite(**{name: pickle.dumps(Attack(mark))}), rf"{name} is a pickled object, which would run code", mark
        )


def test_sizes_that_run_code(rewrite: Callable[..., Path], mark: Path) -> None:
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    refused(rewrite(**{PROGRAM: size(code)}), r"loading would run its size \"__import__", mark)
    with quiet(), pytest.raises(Exception):  # noqa: B017 - torch runs it, and fails on what it gives
        torch.export.load(io.BytesIO(rewrite(**{PROGRAM: size(code)}).read_bytes()))
    assert mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "exec(chr(49))",
        "Max('open(1)', 2)",
        "Mul('open(1)', 2)",
        "Symbol('s0').__class__",
        "(lambda: 1)()",
        "[s0 for s0 in (1,)]",
        "s0 # comment",
        "Symbol(Max('1'))",
        "ｅxec(1)",
        "s0 if s1 else 2",
    ],
)
def test_sizes_that_are_no_arithmetic(text: str, rewrite: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="which is no arithmetic"):
        check_program(rewrite(**{PROGRAM: size(text)}))


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0', positive=True)",
        "2*s0 + 1",
        "Max(s0, FloorDiv(s1, 2)) <= -3.5",
        "7",
        "Min(Integer(32), Mul(Integer(32), Add(Symbol('s23', positive=True, integer=True), Integer(-1))))",
    ],
)
def test_sizes_that_are_arithmetic(text: str, rewrite: Callable[..., Path]) -> None:
    check_program(rewrite(**{PROGRAM: size(text)}))


def test_guards_do_not_run(small: tuple[Any, Path], rewrite: Callable[..., Path], mark: Path) -> None:
    code = f"__import__('pathlib').Path({str(mark)!r}).touch() is None"
    path = rewrite(**{PROGRAM: graph(lambda parsed: parsed.update(guards_code=[code]))})
    agree(fewbit.load(path), small[0], rows(3))
    assert not mark.exists()
    with quiet():
        torch.export.load(io.BytesIO(path.read_bytes())).module()(rows(2))
    assert mark.exists()  # torch itself runs them


def test_classes_that_would_be_imported(rewrite: Callable[..., Path], mark: Path) -> None:
    def change(parsed: Any) -> None:
        signature = parsed["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = '[1, {"__enum__": true, "fqn": "antigravity:x", "name": "y"}]'

    refused(rewrite(**{PROGRAM: graph(change)}), "loading would import what its out_spec names", mark)


def test_compiled_code(rewrite: Callable[..., Path], mark: Path) -> None:
    path = rewrite(**{"program/data/aotinductor/model/code.so": b"\x7fELF"})
    refused(path, r"program/data/aotinductor/model/code\.so is compiled code, which would run", mark)


def test_torchscript_that_writes_files(tmp_path: Path, mark: Path) -> None:
    class Writes(nn.Module):
        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return (self.path, self.training)

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            torch.save(torch.ones(1), state[0])
            self.path = state[0]
            self.training = state[1]

    path = tmp_path / "writes.pt"
    with quiet():
        torch.jit.script(Writes(str(mark))).save(str(path))
    mark.unlink(missing_ok=True)
    refused(
        path, r"its code in writes/code/.*\.py says 'save', and TorchScript's save and from_file write and read", mark
    )
    with quiet():
        torch.jit.load(str(path))
    assert mark.exists()  # loading runs it


def test_members_that_lead_out_of_the_archive(rewrite: Callable[..., Path], mark: Path) -> None:
    for name in ("../mark", "/mark", "program\\..\\..\\mark"):
        refused(rewrite(**{name: b"x"}), "leads out of the archive", mark)
    refused(rewrite(**{PROGRAM.upper(): b"{}"}), "is there twice", mark)


def test_damaged_archives(small: tuple[Any, Path], tmp_path: Path, mark: Path) -> None:
    content = (small[1] / "weights.pth").read_bytes()
    path = tmp_path / "damaged.pth"
    path.write_bytes(content[: len(content) // 2])
    refused(path, r"damaged\.pth is a truncated or damaged archive", mark)
    place = content.index(small[0].first.weight.detach().numpy().tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    refused(path, r"damaged\.pth is damaged: the checksum of its member weights/data/\d is wrong", mark)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("short.pth", b"\x80\x02}q", "is damaged"),
        ("foreign.pkl", pickle.dumps([1.0], protocol=4), "is damaged, or torch.save did not write it"),
        (
            "cut.safetensors",
            b"\x08\x00\x00\x00\x00\x00\x00\x00{}      tail",
            "is a truncated or damaged safetensors file",
        ),
    ],
)
def test_other_damaged_files(name: str, content: bytes, says: str, tmp_path: Path, mark: Path) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, says, mark)


def test_a_program_that_is_no_program(rewrite: Callable[..., Path], mark: Path) -> None:
    refused(rewrite(**{PROGRAM: b"{"}), r"is damaged: its member program/models/model\.json is no JSON", mark)
    refused(rewrite(**{PROGRAM: b"{}"}), r"is damaged, or of another version of PyTorch than", mark)
