"""Probe a target: do the kernels of the runtime on this machine do what the target's data says?

Each op, form and dtype that a target lists is quantized in a tiny model, the way any model is, and the kernels that execute
are read from the graph that the runtime optimized. Widths and rounding are tried on single kernels against exact integers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from fewbit.errors import FewbitError, RecipeError
from fewbit.flow.calibrate import DEFAULT_MIN_SQNR
from fewbit.flow.common import target_for
from fewbit.flow.probe_models import tiny_feeds, tiny_model
from fewbit.flow.quantize import quantize
from fewbit.measure.compare import finite_or_none
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Compute, Recipe, Rule
from fewbit.progress import SILENT, Progress
from fewbit.runtimes import onnxruntime
from fewbit.runtimes.accumulators import KERNELS, exact_bits, rounding
from fewbit.runtimes.cpu import cpu_features
from fewbit.runtimes.verify import Kernels, compare_outputs, kernels
from fewbit.spec import DType
from fewbit.targets import Form, Target

_SAMPLES = 8
_ONE_PRODUCT = ("MatMul", "Gemm")  # the runtime makes one of the other where an addition follows
_LAYOUT = ("Transpose", "Reshape", "ReorderInput", "ReorderOutput")
_EXPANDING = ("Gather",)  # ops whose rows in use are expanded at every run, and not the whole weight at load
# All other forms come of full integer.
_COMPUTE: dict[Form, Compute] = {"dynamic": "dynamic", "weight_only": "weight_only", "storage": "storage"}
_SQNR_A_BIT = 3  # dB: half of what a bit is worth, so that 2 bits with a scale a channel pass, and garbage does not


@dataclass(frozen=True, slots=True)
class Probe:
    """One claim of a target, and what was seen.

    op: an op, or the kernel whose arithmetic is tried. form: how the op runs, or which property is tried.
    sqnr: of the tiny model in dB, None where the claim is about integers alone.
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
    if chosen.runtime != onnxruntime.NAME:
        raise RecipeError(
            f"target {chosen.name} runs in {chosen.runtime}, which cannot be probed; {onnxruntime.NAME} can"
        )
    claims = list(_claims(chosen))
    probes = []
    with progress.task("probing", len(claims) + len(KERNELS) + 1) as advance:
        for claim in claims:
            probes.append(_kernel(chosen, *claim))
            advance(1)
        for kernel in KERNELS:
            probes.append(_width(chosen, kernel))
            advance(1)
        probes.append(_rounding(chosen))
        advance(1)
    return ProbeResult(chosen.name, f"onnxruntime {onnxruntime.version()}", cpu_features().name, probes)


def _claims(target: Target) -> Iterator[tuple[str, Form, DType | None, DType | None]]:
    """(op, form, dtype of activations, dtype of weights) for all that the target lists."""
    for op, rule in target.ops.items():
        for form in rule.forms:
            read = form in ("integer", "passthrough")
            weights = rule.packed if form == "weight_only" else rule.weights
            for activation, weight in product(rule.activations if read else (None,), weights or (None,)):
                yield op, form, activation, weight
    for op in target.fused_activations:
        for dtype in target.rule(op).activations:
            yield op, "absorbed", dtype, None


def _kernel(target: Target, op: str, form: Form, activation: DType | None, weight: DType | None) -> Probe:
    """Quantize a tiny model so that the op takes the form, and look at what the runtime makes of it."""
    wide = activation is not None and activation.bits > 8
    dtypes = "·".join(str(dtype) for dtype in (activation, weight) if dtype is not None)
    claim = "in float" if wide else _CLAIMS[form]

    def told(seen: str, why: str, sqnr: float | None = None) -> Probe:
        return Probe(op, form, f"{dtypes} {claim}", seen, not why, why, finite_or_none(sqnr))

    model = tiny_model(op, form)
    if model is None:
        return told("nothing", "there is no tiny model for this op and form: add one to fewbit.flow.probe_models")
    rule = Rule(
        compute=_COMPUTE.get(form, "integer"),
        weight=None if weight is None else {"dtype": weight, "symmetric": weight.kind == "int"},
        activation=None if activation is None else {"dtype": activation},
    )
    feeds = tiny_feeds(model, _SAMPLES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.onnx"
        try:
            made = quantize(
                model, feeds, Recipe("probe", (rule,)), target, path, effort="fast", min_sqnr=0, verify=False
            )
            found = kernels(path)
            sessions = onnxruntime.open_session(model.SerializeToString()), onnxruntime.open_session(path)
            sqnr = min(output.sqnr for output in compare_outputs(*sessions, feeds))
        except FewbitError as error:
            return told("an error", str(error))
    if op == "Identity" and all(node.op != op for node in made.plan.nodes.values()):
        return told("gone when the model is loaded", "", sqnr)
    why = _planned(made.plan, op, form) or _executed(found, op, form, wide, len(model.graph.output))
    if not why and form == "storage" and made.bytes >= made.float_bytes:
        why = f"the file has {made.bytes} bytes, the float weights {made.float_bytes}"
    bits = 8 if weight is None else weight.bits
    if not why and sqnr < (DEFAULT_MIN_SQNR if bits >= 8 else _SQNR_A_BIT * bits):
        why = f"the outputs keep {sqnr:.1f} dB against float"
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
    "weight_only": "kernel",
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


def _executed(found: Kernels, op: str, form: Form, wide: bool, outputs: int) -> str:
    """Why the kernels are not those of the form, or nothing."""
    quantize_, dequantize = (found.conversions.get(name, 0) for name in ("QuantizeLinear", "DequantizeLinear"))
    if wide:
        ran = ", ".join(found.integer)
        return f"the integer kernel {ran} runs where the target's facts say float" if ran else ""
    if form == "storage":
        if found.integer:
            return "an integer kernel runs"
        alike = _ONE_PRODUCT if op in _ONE_PRODUCT else (op,)
        if not any(found.float_heavy.get(name) or found.other.get(name) for name in alike):
            return f"no float {op} runs"
        expanding = op not in _EXPANDING and (found.conversions or found.other.get("Cast") or found.other.get("Mul"))
        return "the weights are expanded at every run" if expanding else ""
    if found.float_heavy:
        return f"{', '.join(found.float_heavy)} runs in float"
    if form in ("dynamic", "weight_only"):
        return "" if found.integer else "no integer kernel runs"
    if quantize_ > 1 or dequantize > outputs:  # one input is quantized and the outputs are dequantized
        return f"integers are converted on the way: QuantizeLinear {quantize_}, DequantizeLinear {dequantize}"
    return f"{op} runs in float" if form in ("integer", "absorbed") and found.other.get(op) else ""


def _width(target: Target, kernel: str) -> Probe:
    bits = exact_bits(kernel)
    why = ""
    if bits < target.weight_bits:
        why = f"sums saturate: on this machine weights must keep to {bits} bits; use a target that does"
    elif bits > target.weight_bits:
        why = "wider weights would be exact on this machine too"
    claimed, seen = f"{target.weight_bits} bits exact", f"{bits} bits exact"
    return Probe(kernel, "accumulator", claimed, seen, bits >= target.weight_bits, why)


def _rounding(target: Target) -> Probe:
    seen = rounding() or "neither half_even nor half_away"
    why = "" if seen == target.rounding else "activations round another way in the runtime than in fewbit's numerics"
    return Probe("QuantizeLinear", "rounding", target.rounding, seen, not why, why)
