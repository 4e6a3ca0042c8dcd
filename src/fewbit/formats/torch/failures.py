"""What an exporter says in a hundred lines, in one: the user's line, what is wrong with it, and what to change."""

from __future__ import annotations

import linecache
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fewbit.errors import ModelError

_OPERATOR = re.compile(r"op='([\w.]+)'|UnsupportedOperatorException: ([\w.]+?)(?:\.default)?$", re.MULTILINE)
_PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')

_COLOURS = re.compile(r"\x1b\[[\d;]*m")
_LONGEST = 200

_OF_OTHERS = ("torch", "onnxscript", "onnx_ir", "fewbit")
"""Packages whose frames are never the place that a user has to change."""

# Words in the exporter's error, what they mean, and what to change. The first that is found counts.
_REASONS = (
    ("data-dependent", "what is done, or a size, depends on the values of a tensor", "compute both and select with "
     "torch.where, use torch.cond, or keep sizes fixed"),
    (".numpy()", "it leaves PyTorch for numpy", "compute it with torch functions"),
    ("Constraints violated", "a dynamic axis is not dynamic in the model's code", "leave it out of dynamic_shapes "
     "(--dynamic), or take the fixed size out of the code"),
    ("dynamic_shapes", "the dynamic shapes do not fit the example inputs", "name each input and its axes"),
    ("No ONNX function found", "this operator has no form in ONNX", "write it with other operators"),
    ("UnsupportedOperatorException", "this operator has no form in ONNX", "write it with other operators"),
)  # fmt: skip
_UNKNOWN = ("the exporter cannot follow it", "FEWBIT_DEBUG=1 shows all that it says")


def export_error(error: BaseException, label: str) -> ModelError:
    """The error to raise from what torch.export, the TorchScript converter or the ONNX exporter raised."""
    texts = [f"{type(one).__name__}: {one}" for one in chain_of(error)]
    text, reason, remedy = next(
        ((text, why, do) for words, why, do in _REASONS for text in texts if words in text), (texts[0], *_UNKNOWN)
    )
    operator = _OPERATOR.search(text)
    what = f"operator {operator[1] or operator[2]}" if operator else first_line(text)
    return ModelError(f"{label} cannot be exported to ONNX{_place(error)}: {reason} ({what}); {remedy}")


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that caused it, the last first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def place_of(error: BaseException) -> str:
    """` at FILE:LINE, in `code`,` of the innermost frame of the user's code in an error's traceback, or nothing."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_the_users(f.filename)]
    return _shown(frames[-1].filename, frames[-1].lineno) if frames else ""


def _place(error: BaseException) -> str:
    for one in chain_of(error):
        place = _stack_of_node(one) or place_of(one)
        if place:
            return place
    return ""


def _stack_of_node(error: BaseException) -> str:
    """The place in the user's code of the node that an exporter was at: its frame alone knows it."""
    nodes = (frame.f_locals.get("node") for frame, _ in traceback.walk_tb(error.__traceback__))
    return next(filter(None, map(node_place, nodes)), "")


def node_place(node: Any) -> str:
    """The same of a node of an exported graph."""
    stack = getattr(node, "meta", {}).get("stack_trace") or ""
    places = [found for found in _PLACE.finditer(stack) if _is_the_users(found["file"])]
    return _shown(places[-1]["file"], places[-1]["line"]) if places else ""


def _is_the_users(file: str) -> bool:
    if file.startswith("<"):
        return False
    path = Path(file)
    library = Path(sysconfig.get_paths()["stdlib"])
    if "site-packages" not in path.parts and path.is_relative_to(library):
        return False
    return not any(path.is_relative_to(folder) for folder in _folders_of_others())


def _folders_of_others() -> list[Path]:
    found = (getattr(sys.modules.get(name), "__file__", None) for name in _OF_OTHERS)
    return [Path(file).parent for file in found if file]


def _shown(file: str, line: int | str | None) -> str:
    code = linecache.getline(file, int(line or 0)).strip()
    return f" at {file}:{line}{f', in `{code}`' if code else ''}"


def first_line(text: BaseException | str) -> str:
    """The first line of an error or its text, cut where it is long."""
    line = next(iter(_COLOURS.sub("", str(text)).strip().splitlines()), type(text).__name__)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
