"""A plan becomes a file of ExecuTorch, and is verified there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")

import fewbit
from fewbit.flow.auto.mixed import rule_for
from fewbit.plan.recipe import RECIPES
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


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["int4-weights", "w4a8", "first", "second"])
def test_weights_of_four_bits(recipe: str, tmp_path: Path) -> None:
    """At opset 17, which has no DequantizeLinear of 4 bits; beside float activations and beside integers."""
    b = Builder()
    x = b.node("Relu", [b.node("Gemm", ["x", b.weight(64, 32), b.weight(64)], transB=1)])
    b.node("Gemm", [x, b.weight(16, 64), b.weight(16)], "y", transB=1)
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 32)}, ["y"])
    random = np.random.default_rng(0)
    data = [{"x": random.normal(size=(1, 32)).astype(np.float32)} for _ in range(8)]
    four = rule_for(RECIPES["int4-weights"].rules[0], {"first": "Gemm_0", "second": "Gemm_2"}.get(recipe, ""))
    mixed = {"name": "mixed", "base": "int8", "rules": [four]}
    out = tmp_path / "q.pte"
    given = mixed if recipe in ("first", "second") else recipe
    result = fewbit.quantize(model, data=data, recipe=given, effort="fast", out=out)
    assert result.verification.simulation[0].sqnr >= 45.0  # scales of groups are rounded to bfloat16
    kinds = {op.dtypes: op.count for op in executed_ops(out).ops if op.op == "FullyConnected"}
    whole = {"int4-weights": {"int8 · int4": 2}, "w4a8": {"int8 · int8": 2}}
    assert kinds == whole.get(recipe, {"int8 · int4": 1, "int8 · int8": 1})
    assert not any("fp16" in note for note in result.notes)  # which files of ExecuTorch do not hold
