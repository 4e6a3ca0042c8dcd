"""The command's words about inputs: example shapes and dynamic axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fewbit.errors import RecipeError

_SHAPE = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<sizes>\d+(x\d+)*)?(:(?P<dtype>\w+))?")
_DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
_AXIS = re.compile(r"(?P<input>[A-Za-z_]\w*):(?P<axis>\d+)=(?P<name>[A-Za-z_]\w*)")


def shapes_from_texts(texts: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays for texts of the form `name=1x3x224x224` or `name=1x128:int64`: normal floats, zeros of other dtypes.

    Raises:
        RecipeError: another form, or an unknown dtype.
    """
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for text in texts:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise RecipeError(f"input shape {text!r} must have the form name=1x3x224x224 or name=1x128:int64")
        dtype = match["dtype"] or "float32"
        if dtype not in _DTYPES:
            raise RecipeError(f"input shape {text!r}: dtype {dtype} does not exist; use {', '.join(_DTYPES)}")
        sizes = [int(size) for size in (match["sizes"] or "").split("x") if size]
        drawn = generator.standard_normal(sizes) if dtype.startswith("float") else np.zeros(sizes)
        arrays[match["name"]] = np.asarray(drawn, dtype)
    return arrays


def axes_from_texts(texts: Sequence[str]) -> dict[str, dict[int, str]]:
    """`dynamic_shapes` from texts of the form `ids:1=sequence`.

    Raises:
        RecipeError: another form.
    """
    shapes: dict[str, dict[int, str]] = {}
    for text in texts:
        match = _AXIS.fullmatch(text)
        if match is None:
            raise RecipeError(f"dynamic axis {text!r} must have the form input:0=batch (input, axis, name of the size)")
        shapes.setdefault(match["input"], {})[int(match["axis"])] = match["name"]
    return shapes
