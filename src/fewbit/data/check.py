"""Does a feed fit the model? One clear error if not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError

Feed = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class InputInfo:
    """An input of a model. dtype None: any. shape None: any rank; sizes that are a name or None may be anything."""

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        shape = "any shape" if self.shape is None else "[" + ", ".join(str(n or "?") for n in self.shape) + "]"
        return f"{self.name} {self.dtype or 'any dtype'} {shape}"


def check_feed(feed: Mapping[str, Any], inputs: Sequence[InputInfo], index: int) -> Feed:
    """The feed with arrays of the model's dtypes.

    Floats of another width are converted, and int32 and int64 into each other where the numbers fit; nothing else is.

    Raises:
        DataError: names the sample, the input, what was wanted and what was given.
    """
    if not isinstance(feed, Mapping):
        raise DataError(f"sample {index} is {type(feed).__name__}; a feed is a dict of input name to array")
    wanted = {info.name: info for info in inputs}
    missing = [name for name in wanted if name not in feed]
    extra = [name for name in feed if name not in wanted]
    if missing and len(wanted) == 1 and len(feed) == 1 and extra[0].startswith("arr_"):
        feed, missing, extra = {missing[0]: feed[extra[0]]}, [], []  # np.savez without a name
    if missing:
        close = get_close_matches(missing[0], extra, 1)
        hint = f"; rename {close[0]!r}?" if close else ""
        raise DataError(
            f"sample {index} lacks input {missing[0]!r}; the model takes {', '.join(map(str, inputs))} and the sample has "
            f"{', '.join(map(str, feed)) or 'nothing'}{hint}"
        )
    if extra:
        raise DataError(f"sample {index} has {extra[0]!r}, which the model does not take; it takes {', '.join(wanted)}")
    return {name: _check_array(feed[name], info, index) for name, info in wanted.items()}


def _check_array(value: Any, info: InputInfo, index: int) -> NDArray[Any]:
    array = np.asarray(value)
    if info.dtype is not None and array.dtype != info.dtype:
        casts = {
            ("float64", "float32"),
            ("int32", "int64"),
            ("int64", "int32"),
            ("float32", "float16"),
            ("float64", "float16"),
            ("float16", "float32"),
        }
        if (str(array.dtype), str(info.dtype)) not in casts:
            raise DataError(f"sample {index}, input {info.name!r}: the model takes {info.dtype}, given {array.dtype}")
        if info.dtype == np.int32 and array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
            raise DataError(
                f"sample {index}, input {info.name!r}: the model takes int32, and the sample holds {array.min()} to "
                f"{array.max()}"
            )
        array = array.astype(info.dtype)
    if info.shape is not None:
        fits = len(info.shape) == array.ndim and all(
            not isinstance(n, int) or n == actual for n, actual in zip(info.shape, array.shape, strict=True)
        )
        if not fits:
            raise DataError(
                f"sample {index}, input {info.name!r}: the model takes shape "
                f"[{', '.join(str(n or '?') for n in info.shape)}], given {list(array.shape)}"
            )
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            bad = int(array.size - finite.sum())
            raise DataError(
                f"sample {index}, input {info.name!r}: {bad} of {array.size} values are NaN or infinite; "
                "clean the samples first"
            )
    return array
