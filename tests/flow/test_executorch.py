"""A plan becomes a file of ExecuTorch, and is verified there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")

import fewbit
from fewbit.runtimes.executorch_ops import executed_ops
from tests.models import Builder


@pytest.mark.slow
def test_int8(digits: Path, samples: Path, tmp_path: Path) -> None:
    """The ending of the file says which target is meant."""
    out = tmp_path / "digits.pte"
    result = fewbit.quantize(digits, data=samples, recipe="int8", effort="fast", out=out)
    verification = result.verification
    assert verification.runtime.startswith("executorch ")
    assert min(output.sqnr for output in verification.simulation) >= 60.0
    assert min(output.sqnr for output in verification.outputs) >= 20.0
    assert not verification.kernels.float_heavy
    assert executed_ops(out).partitions == 1
    compared = fewbit.compare(digits, out, samples)
    assert abs(compared.outputs[0].sqnr - verification.outputs[0].sqnr) < 10


@pytest.mark.slow
def test_products_of_rows_are_dynamic(tmp_path: Path) -> None:
    b = Builder()
    x = b.node("Relu", [b.node("MatMul", ["x", b.weight(32, 64)])])
    b.node("MatMul", [x, b.weight(64, 8)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 6, 32)}, ["y"])
    random = np.random.default_rng(0)
    data = [{"x": random.normal(size=(1, 6, 32)).astype(np.float32)} for _ in range(8)]
    for recipe in ("int8", "int8-dynamic"):
        out = tmp_path / f"{recipe}.pte"
        result = fewbit.quantize(model, data=data, recipe=recipe, effort="fast", out=out)
        assert result.verification.outputs[0].sqnr >= 30.0
        assert result.verification.simulation[0].sqnr >= 120.0  # the same integers, bit by bit
        products = [op for op in executed_ops(out).ops if op.op == "FullyConnected"]
        assert [(op.dtypes, op.count) for op in products] == [("int8 · int8", 2)]
