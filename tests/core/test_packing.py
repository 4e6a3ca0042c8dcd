from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from fewbit.core.packing import pack, unpack
from fewbit.errors import InputError
from fewbit.spec import INT4, UINT4, DType


def test_the_first_element_lies_in_the_lowest_bits() -> None:
    assert pack(np.array([1, 2, 3]), UINT4).tolist() == [0x21, 0x03]
    assert pack(np.array([-1, 2, -8, 7]), INT4).tolist() == [0x2F, 0x78]
    assert pack(np.array([1, 2, 3, 0, 1]), DType("uint", 2)).tolist() == [0b00111001, 0b01]
    assert pack(np.array([-1, -2, 1, 0]), DType("int", 2)).tolist() == [0b00011011]
    assert pack(np.array([5, 3, 7]), DType("uint", 3)).tolist() == [0b11011101, 0b1]
    assert unpack(np.array([0x2F, 0x78], np.uint8), INT4, (2, 2)).tolist() == [[-1, 2], [-8, 7]]


@pytest.mark.parametrize(
    ("dtype", "kind", "numpy_type"),
    [(INT4, onnx.TensorProto.INT4, ml_dtypes.int4), (UINT4, onnx.TensorProto.UINT4, ml_dtypes.uint4)],
)
@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_bytes_are_those_of_onnx(dtype: DType, kind: int, numpy_type: type, count: int) -> None:
    values = np.random.default_rng(count).integers(dtype.qmin, dtype.qmax + 1, count)
    proto = helper.make_tensor("t", kind, [count], values.astype(numpy_type).tolist())
    stored = numpy_helper.from_array(values.astype(numpy_type))
    assert pack(values, dtype).tobytes() == stored.raw_data
    assert numpy_helper.to_array(proto).astype(np.int64).tolist() == values.tolist()


@given(st.sampled_from(["int", "uint"]), st.integers(2, 8), st.integers(0, 40), st.integers(0, 1 << 30))
def test_unpacking_gives_back_what_was_packed(kind: str, bits: int, count: int, seed: int) -> None:
    dtype = DType(kind, bits)  # type: ignore[arg-type]
    values = np.random.default_rng(seed).integers(dtype.qmin, dtype.qmax + 1, count)
    packed = pack(values, dtype)
    assert packed.nbytes == -(-count * bits // 8)
    assert unpack(packed, dtype, (count,)).tolist() == values.tolist()


def test_wrong_values_and_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"int4 holds -8\.\.7, given 0\.\.8"):
        pack(np.array([0, 8]), INT4)
    with pytest.raises(InputError, match="take 2 bytes, given 3"):
        unpack(np.zeros(3, np.uint8), INT4, (4,))
    with pytest.raises(InputError, match="not int16"):
        pack(np.array([0]), DType("int", 16))
