"""Probe a target: do the kernels of the runtime on this machine do what the target's data says?

Each op, form and dtype that a target lists is quantized in a tiny model, the way any model is, and the kernels that execute
are read from the graph that the runtime optimized; so is each format in which a recipe stores weights. Widths and rounding
are tried on single kernels against exact integers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from fewbit.errors import FewbitError, RecipeError
from fewbit.flow.common import target_for
from fewbit.flow.formats import format_of
from fewbit.flow.probe_models import same_weights, tiny_feeds, tiny_model
from fewbit.flow.quantize import quantize
from fewbit.flow.repair import DEFAULT_MIN_SQNR
from fewbit.measure.compare import finite_or_none
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import RECIPES, Compute, Recipe, Rule
from fewbit.progress import SILENT, Progress
from fewbit.runtimes import onnxruntime
from fewbit.runtimes.accumulators import DEPTHWISE, KERNELS, exact_bits, exact_in_pairs, rounding
from fewbit.runtimes.cpu import cpu_features
from fewbit.runtimes.table import RUNTIMES, open_model, runtime_of
from fewbit.runtimes.verify import Kernels, compare_outputs
from fewbit.spec import DType
from fewbit.targets import Form, Target

_SAMPLES = 8
_ONE_PRODUCT = ("MatMul", "Gemm")  # the runtime makes one of the other where an addition follows
_LAYOUT = ("Transpose", "Reshape", "ReorderInput", "ReorderOutput")
_EXPANDING = ("Gather",)  # ops whose rows in use are expanded at every run, and not the whole weight at load
_EXPANDERS = ("Cast", "Mul", "Sub", "Gather")  # what expands a stored weight, besides conversions
_COMPUTE: dict[Form, Compute] = {  # all other forms come of full integer
    "dynamic": "dynamic",
    "weight_only": "weight_only",
    "storage": "storage",
}
_FLOAT_ACTIVATIONS = ("weight_only", "storage")

# Against float with the weights as they are stored, dB. Seen: MatMulNBits, which rounds activations to 8 bits a block, keeps
# 43 to 45; 16-bit floats, compared with what they were before, 56 and more; all else is exact.
_SAME_WEIGHTS_MIN_SQNR = 40.0


@dataclass(frozen=True, slots=True)
class _Claim:
    """That an op runs in a form with such activations and such weights (fields of a weight setting)."""

    op: str
    form: Form
    activation: DType | None = None
    weight: Mapping[str, Any] = field(default_factory=dict)

    @property
    def wide(self) -> bool:
        return self.activation is not None and self.activation.bits > 8

    def __str__(self) -> str:
        dtypes = "·".join(str(dtype) for dtype in (self.activation, self.weight.get("dtype")) if dtype is not None)
        book = f" {self.weight['codebook']}" if self.weight.get("codebook") else ""
        group = f" in {self.weight['group_size']}s" if self.weight.get("granularity") == "group" else ""
        in_float = self.wide and self.activation is not None and self.activation.kind == "uint"
        return f"{dtypes}{book}{group} {'in float' if in_float else _CLAIMS[self.form]}"


@dataclass(frozen=True, slots=True)
class Probe:
    """One claim of a target, and what was seen.

    op: an op, or the kernel whose arithmetic is tried. form: how the op runs, or which property is tried.
    sqnr: of the tiny model in dB, None where nothing differs, or the claim is about integers alone. Where activations are
        float, against float with the weights as they are stored.
    why: what does not agree, or what else is worth knowing.
    """

    op: str
    form: str
    claimed: str
    seen: str
    ok: bool
    why: str = ""
    sqnr: float | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """All claims of one target on this machine."""

    target: str
    runtime: str
    cpu: str
    probes: Sequence[Probe]

    @property
    def ok(self) -> bool:
        return all(probe.ok for probe in self.probes)

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "runtime": self.runtime,
            "cpu": self.cpu,
            "ok": self.ok,
            "probes": [asdict(probe) for probe in self.probes],
        }


def probe(target: str | Target = "ort-cpu", *, progress: Progress = SILENT) -> ProbeResult:
    """Check a target's data against its runtime on this machine.

    Raises:
        RecipeError: no such target, or one whose runtime is not on this machine.
    """
    chosen = target_for(target)
    runtime = next((r for r in RUNTIMES if r.name == chosen.runtime), None)
    if runtime is None:
        there = " and ".join(r.name for r in RUNTIMES)
        raise RecipeError(f"target {chosen.name} runs in {chosen.runtime}, which cannot be probed; {there} can")
    version, claims = runtime.version(), list(_claims(chosen))
    # Other runtimes multiply integers in 32 bits; what they round is compared number by number where files are verified.
    kernels = KERNELS if runtime.name == onnxruntime.NAME else ()
    probes = []
    with progress.task("probing", len(claims) + len(kernels) + 1) as advance:
        for claim in claims:
            probes.append(_kernel(chosen, claim))
            advance(1)
        for kernel in kernels:
            probes += _widths(chosen, kernel)
            advance(1)
        if kernels:
            probes.append(_rounding(chosen))
        advance(1)
    return ProbeResult(chosen.name, f"{runtime.name} {version}", cpu_features().name, probes)


def _claims(target: Target) -> Iterator[_Claim]:
    """All that the target lists, with the weights of the recipes that take one form or the other."""
    for op, rule in target.ops.items():
        for form in rule.forms:
            read = form in ("integer", "passthrough")
            weights: list[dict[str, Any]] = [{"dtype": dtype} for dtype in rule.weights]
            if form == "weight_only":
                weights = [{"dtype": dtype, "symmetric": dtype.kind == "int"} for dtype in rule.packed]
                weights += _weights_of("weights")
            for activation, weight in product(rule.activations if read else (None,), weights or [{}]):
                yield _Claim(op, form, activation, weight)
    for op in target.fused_activations:
        for dtype in target.rule(op).activations:
            yield _Claim(op, "absorbed", dtype)
    # What expands a weight does not ask which op reads it: one op for all formats.
    stores = [op for op, rule in target.ops.items() if "storage" in rule.forms and op not in _EXPANDING]
    for op in stores[:1]:
        for weight in _weights_of("storage") + _weights_of("weights"):
            if weight["dtype"] not in target.rule(op).weights and _holds(target, weight):
                yield _Claim(op, "storage", None, weight)


def _holds(target: Target, weight: Mapping[str, Any]) -> bool:
    """Whether a file of the target can store weights of this setting."""
    plain = weight.get("codebook") is None and weight.get("symmetric", True) and weight.get("granularity") != "group"
    return target.stores is None or (plain and weight["dtype"] in target.stores)


def _weights_of(compute: Compute) -> list[dict[str, Any]]:
    """The settings of weights in the built-in recipes that compute so."""
    rules = [rule for recipe in RECIPES.values() for rule in recipe.rules if rule.compute == compute]
    return [dict(rule.weight) for rule in rules if rule.weight is not None]


def _kernel(target: Target, claim: _Claim) -> Probe:
    """Quantize a tiny model so that the op takes the form, and look at what the runtime makes of it."""
    op, form = claim.op, claim.form

    def told(seen: str, why: str, sqnr: float | None = None) -> Probe:
        return Probe(op, form, str(claim), seen, not why, why, finite_or_none(sqnr))

    model = tiny_model(op, form)
    if model is None:
        return told("nothing", "there is no tiny model for this op and form: add one to fewbit.flow.probe_models")
    rule = Rule(
        compute=_COMPUTE.get(form, "integer"),
        weight=claim.weight or None,
        activation=None if claim.activation is None else {"dtype": claim.activation},
    )
    feeds = tiny_feeds(model, _SAMPLES)
    given = None if form in _FLOAT_ACTIVATIONS else feeds  # which would move the weights and the biases
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tiny{format_of(target).suffix}"
        try:
            made = quantize(
                model, given, Recipe("probe", (rule,)), target, path, effort="fast", min_sqnr=0, verify=False
            )
            found = runtime_of(path).kernels(path)
            if form in _FLOAT_ACTIVATIONS:
                real = onnxruntime.open_session(same_weights(model, made.plan))
            else:
                real = onnxruntime.open_session(model.SerializeToString())
            sqnr = min(output.sqnr for output in compare_outputs(real, open_model(path), feeds))
        except FewbitError as error:
            return told("an error", str(error))
    if op == "Identity" and all(node.op != op for node in made.plan.nodes.values()):
        return told("gone when the model is loaded", "", sqnr)
    executed = _executed if target.runtime == onnxruntime.NAME else _executed_by_name
    why = _planned(made.plan, op, form) or executed(found, claim, len(model.graph.output))
    if not why and form in _FLOAT_ACTIVATIONS and made.bytes >= made.float_bytes:
        why = f"the file has {made.bytes} bytes, the float weights {made.float_bytes}"
    least = _SAME_WEIGHTS_MIN_SQNR if form in _FLOAT_ACTIVATIONS else DEFAULT_MIN_SQNR
    if not why and sqnr < least:
        of = " with the same weights" if form in _FLOAT_ACTIVATIONS else ""
        why = f"the outputs keep {sqnr:.1f} dB against float{of}, less than {least:g}"
    return told(_shown(found, op), why, sqnr)


def _shown(found: Kernels, op: str) -> str:
    """The kernels without those that only change the layout, and without conversions, of which `why` tells."""
    executed = {**found.integer, **found.float_heavy, **found.other}
    names = [name for name in executed if name == op or name not in _LAYOUT]
    return ", ".join(f"{executed[name]} {name}" if executed[name] > 1 else name for name in names)


_CLAIMS: dict[Form, str] = {
    "integer": "kernel",
    "passthrough": "moved",
    "absorbed": "without a node",
    "dynamic": "kernel",
    "weight_only": "never expanded",
    "storage": "expanded once",
}


def _planned(plan: Plan, op: str, form: Form) -> str:
    """Why the plan does not have the op in this form, or nothing."""
    nodes = [node for node in plan.nodes.values() if node.op == op]
    if any(node.form == form for node in nodes):
        return ""
    if not nodes:
        return f"no {op} is left in the normalized graph: the tiny model does not fit"
    return f"fewbit plans it as {nodes[0].form}: {nodes[0].reason}"


def _executed(found: Kernels, claim: _Claim, outputs: int) -> str:
    """Why the kernels are not those of the form, or nothing."""
    op, form = claim.op, claim.form
    quantize_, dequantize = (found.conversions.get(name, 0) for name in ("QuantizeLinear", "DequantizeLinear"))
    if claim.wide:
        ran = ", ".join(found.integer)
        return f"the integer kernel {ran} runs where the target's facts say float" if ran else ""
    if form == "storage":
        if found.integer:
            return "an integer kernel runs"
        alike = _ONE_PRODUCT if op in _ONE_PRODUCT else (op,)
        if not any(found.float_heavy.get(name) or found.other.get(name) for name in alike):
            return f"no float {op} runs"
        expanding = op not in _EXPANDING and (found.conversions or any(map(found.other.get, _EXPANDERS)))
        return "the weights are expanded at every run" if expanding else ""
    if found.float_heavy:
        return f"{', '.join(found.float_heavy)} runs in float"
    if form == "weight_only":
        known = "GatherBlockQuantized" if op == "Gather" else "MatMulNBits"
        ran = ", ".join((*found.integer, *found.conversions)) or "none"
        if found.other.get(op):
            return f"{op} runs in float"
        return "" if ran == known else f"of kernels for integers {ran} runs, not {known} alone"
    if form == "dynamic":
        return "" if found.integer else "no integer kernel runs"
    if quantize_ > 1 or dequantize > outputs:  # one input is quantized and the outputs are dequantized
        return f"integers are converted on the way: QuantizeLinear {quantize_}, DequantizeLinear {dequantize}"
    return f"{op} runs in float" if form in ("integer", "absorbed") and found.other.get(op) else ""


def _executed_by_name(found: Kernels, claim: _Claim, outputs: int) -> str:
    """The same for a runtime that names its operators alike, whatever they compute with, and tells of their dtypes."""
    heavy = ", ".join(found.float_heavy)
    if claim.form == "storage":
        return (
            "an integer kernel runs" if found.integer else "" if heavy or found.other else f"no float {claim.op} runs"
        )
    if heavy:
        return f"{heavy} runs in float"
    if claim.form == "dynamic":
        return "" if found.integer else "no integer kernel runs"
    made, read = found.conversions.get("QUANTIZE", 0), found.conversions.get("DEQUANTIZE", 0)
    requantizes = claim.op == "Concat" and claim.form == "integer"  # its inputs have scales of their own
    if (made > 1 or read > outputs) and not requantizes:
        return f"integers are converted on the way: QUANTIZE {made}, DEQUANTIZE {read}"
    return ""


def _widths(target: Target, kernel: str) -> Iterator[Probe]:
    """How wide weights may be, whatever they are, and in pairs that are limited."""
    limited = target.pair_limit is not None
    claimed = 8 if limited and kernel == DEPTHWISE else target.weight_bits
    bits = exact_bits(kernel)
    why = ""
    if bits < claimed:
        why = f"sums saturate: on this machine weights must keep to {bits} bits; use a target that does"
    elif bits > claimed:
        why = "wider weights would be exact on this machine too"
    yield Probe(kernel, "accumulator", f"{claimed} bits exact", f"{bits} bits exact", bits >= claimed, why)
    if target.pair_limit is not None and kernel != DEPTHWISE:
        ok = exact_in_pairs(kernel, target.pair_limit)
        why = "" if ok else "sums saturate: on this machine pairs must keep to less; use a target whose pair_limit does"
        claim = f"8 bits exact, pairs up to {target.pair_limit}"
        yield Probe(kernel, "pairs", claim, "exact" if ok else "saturated", ok, why)


def _rounding(target: Target) -> Probe:
    seen = rounding() or "neither half_even nor half_away"
    why = "" if seen == target.rounding else "activations round another way in the runtime than in fewbit's numerics"
    return Probe("QuantizeLinear", "rounding", target.rounding, seen, not why, why)
