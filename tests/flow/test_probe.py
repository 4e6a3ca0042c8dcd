"""Probing targets in the real runtime: what is so is confirmed, and what is not so is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fewbit.errors import RecipeError
from fewbit.flow import probe_models
from fewbit.flow.probe import Probe, probe
from fewbit.runtimes.cpu import cpu_features
from fewbit.spec import INT8, UINT8
from fewbit.targets import TARGETS, OpRule, Target

CONV = TARGETS["ort-cpu"].ops["Conv"]


def lying(**rules: OpRule) -> Target:
    """The target of this machine, with these claims and no others."""
    bits = 7 if cpu_features().vnni is False else 8
    return replace(TARGETS["ort-cpu"], name="lying", ops=rules, weight_bits=bits, fused_activations=())


def verdict(op: str, target: Target) -> Probe:
    return next(p for p in probe(target).probes if p.op == op)


@pytest.fixture(scope="module")
def probes() -> dict[tuple[str, str, str], Probe]:
    return {(p.op, p.form, p.claimed): p for p in probe("ort-cpu").probes}


def test_all_that_this_machines_target_says_is_so(probes: dict[tuple[str, str, str], Probe]) -> None:
    assert [p for p in probes.values() if not p.ok] == []


def test_every_op_form_and_dtype_is_probed(probes: dict[tuple[str, str, str], Probe]) -> None:
    for op, rule in TARGETS["ort-cpu"].ops.items():
        for form in rule.forms:
            told = " ".join(claimed for name, tried, claimed in probes if (name, tried) == (op, form))
            weights = rule.packed if form == "weight_only" else rule.weights
            for dtype in rule.activations if form in ("integer", "passthrough") else weights:
                assert str(dtype) in told, (op, form)


@pytest.mark.parametrize(
    ("key", "seen"),
    [
        (("Conv", "integer", "uint8·int8 kernel"), "QLinearConv"),
        (("Conv", "integer", "uint16·int8 in float"), "Conv"),
        (("MatMul", "integer", "uint16·int8 in float"), "Gemm"),
        (("MatMul", "weight_only", "uint4 kernel"), "MatMulNBits"),
        (("Gather", "weight_only", "int2 kernel"), "GatherBlockQuantized"),
        (("MatMul", "integer", "uint8·int8 kernel"), "MatMulIntegerToFloat, Add"),
        (("LSTM", "dynamic", "int8 kernel"), "DynamicQuantizeLSTM"),
        (("Relu", "absorbed", "uint8 without a node"), "2 QLinearConv"),
        (("Transpose", "passthrough", "uint8 moved"), "2 QLinearConv, 3 Transpose"),
    ],
)
def test_the_kernels_that_were_seen(
    probes: dict[tuple[str, str, str], Probe], key: tuple[str, str, str], seen: str
) -> None:
    assert probes[key].seen == seen


def test_an_op_without_a_tiny_model_is_not_taken_on_trust() -> None:
    told = verdict("Tanh", lying(Tanh=OpRule(("integer",), (UINT8,))))
    assert not told.ok and "no tiny model" in told.why


def test_an_op_that_the_runtime_computes_in_float_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probe_models._BETWEEN, "Tanh", "h = Tanh(a)")
    told = verdict("Tanh", lying(Conv=CONV, Tanh=OpRule(("integer",), (UINT8,))))
    assert not told.ok and told.seen == "2 QLinearConv, Tanh"
    assert told.why == "integers are converted on the way: QuantizeLinear 2, DequantizeLinear 2"


def test_an_op_that_no_kernel_moves_is_found_out() -> None:
    told = verdict("GlobalAveragePool", lying(Conv=CONV, GlobalAveragePool=OpRule(("passthrough",), (UINT8,))))
    assert not told.ok and told.seen == "an error" and "cannot load" in told.why


def test_a_form_that_fewbit_does_not_plan_is_found_out() -> None:
    told = verdict("Flatten", lying(Flatten=OpRule(("passthrough",), (UINT8,)), Gemm=OpRule(("storage",), (), (INT8,))))
    assert not told.ok and told.why == "fewbit plans it as float: its inputs are float"


def test_weights_that_saturate_are_found_out() -> None:
    result = probe(replace(lying(), weight_bits=8))
    widths = {p.op: p for p in result.probes if p.form == "accumulator"}
    if cpu_features().vnni is False:
        assert not result.ok and not widths["QLinearConv"].ok and "saturate" in widths["QLinearConv"].why
    elif cpu_features().vnni:
        assert all(p.ok for p in widths.values())
    narrow = probe(replace(lying(), weight_bits=7))
    assert all(p.ok for p in narrow.probes)  # pairs of 255 · 63 fit in 16 bits everywhere


def test_rounding_that_differs_is_found_out() -> None:
    (*_, told) = probe(replace(lying(), rounding="half_away")).probes
    assert not told.ok and told.seen == "half_even"


def test_a_runtime_that_is_not_here_is_refused() -> None:
    with pytest.raises(RecipeError, match="runs in tpu, which cannot be probed"):
        probe(replace(lying(), runtime="tpu"))
