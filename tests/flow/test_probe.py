"""Probing targets in the real runtime: what is so is confirmed, and what is not so is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fewbit.errors import RecipeError
from fewbit.flow import probe as probe_module
from fewbit.flow import probe_models
from fewbit.flow.common import target_for
from fewbit.flow.probe import Probe, probe
from fewbit.formats.onnx import nbits
from fewbit.runtimes.accumulators import DEPTHWISE, KERNELS
from fewbit.runtimes.cpu import cpu_features
from fewbit.spec import INT8, UINT8
from fewbit.targets import TARGETS, OpRule, Target

CONV = TARGETS["ort-cpu"].ops["Conv"]


def lying(**rules: OpRule) -> Target:
    """The target of this machine, with these claims and no others."""
    return replace(target_for("ort-cpu"), name="lying", ops=rules, fused_activations=())


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
        (("MatMul", "weight_only", "uint4 never expanded"), "MatMulNBits"),
        (("Gather", "weight_only", "int2 never expanded"), "GatherBlockQuantized"),
        (("MatMul", "integer", "uint8·int8 kernel"), "MatMulIntegerToFloat, Add"),
        (("MatMul", "weight_only", "uint4 in 32s never expanded"), "MatMulNBits"),
        (("Gemm", "weight_only", "int8 never expanded"), "MatMulNBits"),
        (("Gather", "weight_only", "uint2 in 32s never expanded"), "GatherBlockQuantized"),
        (("Gather", "storage", "int8 expanded once"), "2 Gather, Cast, Mul"),
        (("Conv", "storage", "uint4 nf4 in 64s expanded once"), "Conv"),
        (("Conv", "storage", "bfloat16 expanded once"), "Conv"),
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


@pytest.mark.parametrize("op", ["MatMul", "Gather"])
def test_weights_that_are_expanded_are_found_out(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is not there: the weights are stored instead."""
    monkeypatch.setitem(probe_module._COMPUTE, "weight_only", "storage")
    told = verdict(op, lying(**{op: OpRule(("weight_only", "storage"), weights=(INT8,), packed=(INT8,))}))
    assert not told.ok and told.form == "weight_only"
    assert told.why.startswith("fewbit plans it as storage")


def test_a_weight_only_kernel_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probe_module._COMPUTE, "weight_only", "dynamic")
    monkeypatch.setattr(probe_module, "_planned", lambda *_: "")
    told = verdict("Gemm", lying(Gemm=OpRule(("weight_only", "dynamic"), weights=(INT8,), packed=(INT8,))))
    assert not told.ok
    assert told.why == "of kernels for integers DynamicQuantizeMatMul runs, not MatMulNBits alone"


def test_a_kernel_that_reads_other_weights_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the runtime unpacked the bits in another order."""
    monkeypatch.setattr(nbits, "_packed_rows", lambda rows, bits, right=nbits._packed_rows: right(rows[:, ::-1], bits))
    told = verdict("MatMul", lying(MatMul=OpRule(("weight_only",), packed=(INT8,))))
    assert not told.ok and told.seen == "MatMulNBits"
    assert "dB against float with the same weights, less than 40" in told.why


def test_every_recipe_that_stores_weights_is_probed(probes: dict[tuple[str, str, str], Probe]) -> None:
    stored = [claimed for op, form, claimed in probes if (op, form) == ("Conv", "storage")]
    for dtype in ("int8", "float16", "bfloat16", "float8e4m3", "float8e5m2"):
        assert f"{dtype} expanded once" in stored
    for book in ("nf4", "fp4", "kmeans", "pot", "apot"):
        assert f"uint4 {book} in 64s expanded once" in stored
    assert len(stored) == 16


def test_all_but_weight_only_is_exact_with_the_same_weights(probes: dict[tuple[str, str, str], Probe]) -> None:
    for (op, form, claimed), told in probes.items():
        if form == "weight_only" and op in ("Gemm", "MatMul"):
            assert told.sqnr is not None and 42 < told.sqnr < 50, claimed
        elif form == "storage" and "float16" not in claimed:
            assert told.sqnr is None, (op, claimed)


def widths(target: Target) -> dict[tuple[str, str], Probe]:
    return {(p.op, p.form): p for p in probe(target).probes if p.form in ("accumulator", "pairs")}


def test_weights_that_saturate_are_found_out() -> None:
    wide = widths(replace(lying(), weight_bits=8, pair_limit=None))
    if cpu_features().vnni is False:
        told = wide["QLinearConv 3×3", "accumulator"]
        assert not told.ok and "saturate" in told.why
        assert wide[DEPTHWISE, "accumulator"].ok
    elif cpu_features().vnni:
        assert all(p.ok for p in wide.values())
    assert {form for _, form in wide} == {"accumulator"}
    narrow = widths(replace(lying(), weight_bits=7, pair_limit=None))
    assert all(p.ok for p in narrow.values())  # pairs of 255 · 63 fit in 16 bits everywhere


def test_pairs_that_saturate_are_found_out() -> None:
    safe = widths(replace(lying(), weight_bits=7, pair_limit=128))
    assert all(p.ok for p in safe.values())  # 255 · 128 fits in 16 bits everywhere
    assert safe["QGemm", "pairs"].claimed == "8 bits exact, pairs up to 128"
    assert safe[DEPTHWISE, "accumulator"].claimed == "8 bits exact"
    assert (DEPTHWISE, "pairs") not in safe
    wide = widths(replace(lying(), weight_bits=7, pair_limit=130))
    pairs = {op: p for (op, form), p in wide.items() if form == "pairs"}
    assert list(pairs) == [kernel for kernel in KERNELS if kernel != DEPTHWISE]
    if cpu_features().vnni is False:
        assert not any(p.ok for p in pairs.values())
        assert pairs["QGemm"].seen == "saturated" and "use a target whose pair_limit" in pairs["QGemm"].why


def test_depthwise_kernels_must_take_eight_bits_where_pairs_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, DEPTHWISE, KERNELS["QGemm"])
    told = widths(replace(lying(), weight_bits=7, pair_limit=128))[DEPTHWISE, "accumulator"]
    assert told.ok is (cpu_features().vnni is not False)


def test_rounding_that_differs_is_found_out() -> None:
    (*_, told) = probe(replace(lying(), rounding="half_away")).probes
    assert not told.ok and told.seen == "half_even"


def test_a_runtime_that_is_not_here_is_refused() -> None:
    with pytest.raises(RecipeError, match="runs in tpu, which cannot be probed"):
        probe(replace(lying(), runtime="tpu"))


class TestLiteRt:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("ai_edge_litert")

    def test_all_that_the_target_says_is_so(self) -> None:
        result = probe("litert-cpu")
        assert [p for p in result.probes if not p.ok] == []
        assert result.runtime.startswith("litert ") and len(result.probes) > 50

    def test_what_is_not_so_is_found(self) -> None:
        """Activations that are unsigned, and integers of a softmax that is not listed."""
        target = replace(
            TARGETS["litert-cpu"],
            ops={"Conv": OpRule(("integer",), (UINT8,), (INT8,)), "Softmax": OpRule(("integer",), (INT8,))},
            fused_activations=(),
        )
        found = {p.op: p for p in probe(target).probes}
        assert not found["Conv"].ok and "nothing to quantize" in found["Conv"].why
        assert not found["Softmax"].ok and "no tiny model" in found["Softmax"].why
