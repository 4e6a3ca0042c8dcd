from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fewbit.errors import RecipeError
from fewbit.spec import DType


@pytest.mark.parametrize(
    ("text", "storage"),
    [
        ("int4", np.int8),
        ("uint2", np.uint8),
        ("int12", np.int16),
        ("float16", np.float16),
        ("bfloat16", ml_dtypes.bfloat16),
        ("float8e4m3", ml_dtypes.float8_e4m3fn),
        ("float8e5m2", ml_dtypes.float8_e5m2),
    ],
)
def test_dtypes_are_read_as_they_are_written(text: str, storage: type) -> None:
    dtype = DType.parse(text)
    assert str(dtype) == text and dtype.storage == np.dtype(storage)
    assert dtype.is_float8 == text.startswith("float8")


@pytest.mark.parametrize("text", ["float8", "e4m3fn8", "int1", "bfloat32", "float8e3m4"])
def test_other_dtypes_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="dtype"):
        DType.parse(text)
