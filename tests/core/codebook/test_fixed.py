from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import norm

from fewbit.core.codebook import TABLES, fixed, table
from fewbit.errors import RecipeError
from fewbit.runtimes.onnxruntime import open_session


def test_nf4_is_the_quantiles_of_the_paper() -> None:
    # QLoRA, appendix E; the offset is half of (1 - 1/32) + (1 - 1/30), the outermost quantiles of the two halves.
    offset = (2 - 1 / 32 - 1 / 30) / 2
    above, below = norm.ppf(np.linspace(offset, 0.5, 9)[:-1]), -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    levels = np.sort(np.concatenate([above, below, [0.0]])) / above.max()
    np.testing.assert_allclose(table("nf4", 4), levels, atol=2e-7)


def test_fp4_is_e2m1() -> None:
    every = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert table("fp4", 4).tolist() == np.unique((every + 0.0) / np.float32(6)).astype(np.float32).tolist()
    assert (table("fp4", 4) * 12).round(4).tolist() == [-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12]


def test_fp4_of_bitsandbytes() -> None:
    assert (table("fp4_bnb", 4)[8:] * 192).round(3).tolist() == [1, 32, 48, 64, 96, 128, 192]


def test_powers_of_two() -> None:
    assert table("pot", 3).tolist() == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    assert table("pot", 2).tolist() == [-1, 0, 1]
    assert table("pot", 4)[8:].tolist() == [2.0**-k for k in (6, 5, 4, 3, 2, 1, 0)]
    assert table("pot", 8)[128] == np.finfo(np.float32).tiny  # the smallest level is no denormal


def test_additive_powers_of_two() -> None:
    assert (table("apot", 4)[7:] * 10).tolist() == pytest.approx([0, 1, 2, 3, 4, 6, 8, 10])  # eighths over 5/4
    assert table("apot", 3)[3:].tolist() == [0, 0.25, 0.5, 1]
    sums = sorted(a + b for a in (0, 1, 1 / 4, 1 / 16) for b in (0, 1 / 2, 1 / 8, 1 / 32))
    assert table("apot", 5)[15:].tolist() == pytest.approx([s / 1.5 for s in sums])


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_ascending_symmetric_but_for_nf4_and_hold_zero(name: str) -> None:
    for bits in (4,) if "4" in name else range(2, 9):
        levels = table(name, bits)
        assert levels.dtype == np.float32 and len(levels) in (2**bits, 2**bits - 1)
        assert (np.diff(levels) > 0).all() and 0.0 in levels and np.abs(levels).max() == 1
        assert not np.signbit(levels[levels == 0]).any()
        if name != "nf4":
            assert np.array_equal(levels, -levels[::-1])


def test_unknown_tables_and_widths_are_refused() -> None:
    with pytest.raises(RecipeError, match="'nf5' is not known; use one of nf4, fp4"):
        table("nf5", 4)
    with pytest.raises(RecipeError, match="codebook nf4 has 4 bits, not 3"):
        table("nf4", 3)
    with pytest.raises(RecipeError, match="codebook pot has 2, 3, 4, 5, 6, 7, 8 bits, not 9"):
        table("pot", 9)


@pytest.mark.parametrize(("name", "quant_type"), [("fp4_bnb", 0), ("nf4", 1)])
def test_the_tables_of_bitsandbytes_are_those_of_the_runtime(name: str, quant_type: int) -> None:
    codes = np.arange(16, dtype=np.uint8)
    packed = np.append(
        (codes[0::2] << 4) | codes[1::2], np.zeros(24, np.uint8)
    )  # the first of two codes is in the high bits
    node = helper.make_node(
        "MatMulBnb4", ["x", "b", "s"], ["y"], domain="com.microsoft", K=16, N=4, block_size=16, quant_type=quant_type
    )
    constants = [numpy_helper.from_array(packed, "b"), numpy_helper.from_array(np.ones(4, np.float32), "s")]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [16, 16]), ("y", [16, 4]))]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", info[:1], info[1:], constants)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    real = open_session(model.SerializeToString()).run({"x": np.eye(16, dtype=np.float32)})[0][:, 0]
    signs = np.repeat([1.0, -1.0], 8)
    wanted = table("nf4", 4) if name == "nf4" else np.tile(fixed.FP4_BNB_CODES, 2) * signs
    np.testing.assert_allclose(real, wanted, rtol=1e-6)
    assert np.array_equal(np.unique(real + 0.0), table(name, 4))
