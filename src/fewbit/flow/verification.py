"""Verification of a file that was written: loaded in its runtime, run, compared and timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.data import DataSource
from fewbit.errors import VerificationError
from fewbit.flow.common import finite_feed, hub_inputs, some, synthetic_feed
from fewbit.flow.formats import Details, ModelFormat
from fewbit.flow.step_by_step import compare_step_by_step
from fewbit.formats.litert.kinds import is_litert
from fewbit.graph.hub import Hub, all_graphs
from fewbit.graph.save import is_large
from fewbit.measure.compare import OutputComparison
from fewbit.measure.latency import Latency, interleaved
from fewbit.plan.plan import Plan
from fewbit.runtimes.execution import Kernels
from fewbit.runtimes.litert_ops import float_ops
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.session import Session
from fewbit.runtimes.table import Runtime, runtime_named, runtime_of
from fewbit.runtimes.verify import check_fallbacks, compare_outputs
from fewbit.targets import Target

VERIFY_SAMPLES = 8
SLOWER = 0.95  # a ratio nearer to 1 is within the noise of a quick look
RANDOM = "random inputs"
LEAST_AGREEMENT = 30.0
"""dB that a runtime keeps of what the plan means, where integers round otherwise now and then."""
_LEAST_ROUNDED_OTHERWISE = 20.0
"""The same of kernels that round otherwise throughout, which a Softmax stretches: 27 dB were seen of ResNet-8, and less than
19 of kernels that compute something else."""
STEPS_BELOW = 40.0
"""dB below which a runtime is compared from one rounding of floats to the next too: a few integers that are rounded otherwise
become noise in the layers behind them, which hides all else."""
_LEAST_STEP = 60.0
"""dB that such a step keeps where kernels compute what the plan means: 109 and more were seen where floats alone differ."""
_WORSE = 3.0  # dB: twice the noise
_TIMING_ROUNDS = 7
_FLOAT_FORMS = ("float", "storage")
_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True, slots=True)
class Verification:
    """What the runtime did with the exported model.

    outputs: each output against the float model on a few samples.
    simulation: each output against what the plan means, simulated, on the same samples; empty where the runtime is that of the
        simulation.
    steps: the same, and each float that is rounded to integers on the way, where the simulation is given those that the
        runtime rounds; made where an output keeps less than `STEPS_BELOW` without.
    inputs: what these are: `samples`, `synthetic samples`, or `random inputs` where none were given.
    kernels: what executes. latency: against the float model in the same runtime, a quick look in turns on one thread; `bench`
        looks longer. None where this machine's times say nothing of the device.
    arena: bytes that activations take on a microcontroller, for targets that are one.
    """

    runtime: str
    outputs: Sequence[OutputComparison]
    kernels: Kernels
    latency: Latency | None
    inputs: str
    simulation: Sequence[OutputComparison] = ()
    arena: int | None = None
    steps: Sequence[OutputComparison] = ()

    @property
    def synthetic(self) -> bool:
        """Whether the samples were not real."""
        return self.inputs != "samples"

    def to_dict(self) -> dict[str, Any]:
        return {
            "runtime": self.runtime,
            "inputs": self.inputs,
            "synthetic_inputs": self.synthetic,
            "outputs": [o.to_dict() for o in self.outputs],
            "simulation": [o.to_dict() for o in self.simulation],
            "steps": [o.to_dict() for o in self.steps],
            "kernels": self.kernels.to_dict(),
            "latency": None if self.latency is None else self.latency.to_dict(),
            "arena_bytes": self.arena,
        }


def details_for(
    format: ModelFormat,
    hub: Hub,
    plan: Plan,
    source: DataSource | None,
    model: Any,
    *,
    keep_names: bool,
    signature: str | None = None,
) -> Details:
    """What the writer of a format is told: the sizes of a sample, and what the file that the model came from carries beside
    its graph; `signature`: which one of it the model is."""
    metadata = None
    if format.name == "litert" and is_litert(model):
        from fewbit.formats.litert.read.metadata import litert_metadata

        metadata = litert_metadata(model, signature)
    shapes: dict[str, Sequence[int]] = {}
    if format.simulate is not None:  # such files have fixed sizes
        feed = synthetic_feed(hub_inputs(hub)) if source is None else next(iter(source.feeds()))
        shapes = {name: array.shape for name, array in feed.items()}
    dynamic = frozenset(name for name, node in plan.nodes.items() if node.form in ("dynamic", "weight_only"))
    return Details(shapes, metadata, dynamic, keep_names)


def verified(
    hub: Hub,
    plan: Plan,
    format: ModelFormat,
    lowered: ir.Model,
    path: Path,
    source: DataSource | None,
    details: Details,
    target: Target,
) -> Verification:
    """Run a file that a plan was written to.

    Raises:
        VerificationError: the runtime does not do what the plan says.
    """
    runtime = runtime_named(target.runtime) or runtime_of(path)
    executed = runtime.execution(path)
    found = executed.kernels
    if target.integers_only:
        _check_integers_only(path, plan.target)
    planned = _planned_float(plan, hub)
    if format.simulate is not None and any(node.op in _RECURRENT for node in plan.nodes.values()):
        planned["MatMul"] += sum(found.float_heavy.values())  # their steps are spelled out in products
    check_fallbacks(found, planned, runtime.title)
    float_model: Any = hub.path if is_large(hub.model) and hub.path is not None else hub.model
    real, quantized = open_session(float_model), runtime.open_session(path)
    inputs = hub_inputs(hub)
    feeds: list[Mapping[str, NDArray[np.generic]]]
    feeds = [finite_feed(inputs, real)] if source is None else list(islice(source.feeds(), VERIFY_SAMPLES))
    outputs = compare_outputs(real, quantized, feeds)
    simulation: list[OutputComparison] = []
    steps: list[OutputComparison] = []
    baseline: Session = real
    if format.simulate is not None:
        simulated = format.session(lowered)
        simulation = compare_outputs(simulated, quantized, feeds)
        if runtime.simulated and any(o.sqnr < STEPS_BELOW for o in simulation if o.per_sample):
            steps = compare_step_by_step(format, runtime, lowered, path, feeds, details, quantized)
        told = steps and min(o.sqnr for o in steps if o.per_sample) >= _LEAST_STEP
        least = LEAST_AGREEMENT if runtime.simulated else _LEAST_ROUNDED_OTHERWISE
        pairs = enumerate(zip(outputs, simulation, strict=True))
        doubtful = [i for i, (output, agreement) in pairs if output.per_sample and agreement.sqnr < least and not told]
        meant = compare_outputs(real, simulated, feeds) if doubtful else []  # as much work again
        for i in doubtful:
            _check_no_worse(outputs[i], meant[i], simulation[i], runtime)
        baseline = _float_in(format, runtime, hub, path, details) if runtime.timed else real
    latency = None
    if runtime.timed:
        runs = {"float": baseline.timed(feeds[0]), "quantized": quantized.timed(feeds[0])}
        latency = interleaved(runs, rounds=_TIMING_ROUNDS)[1]
    arena = executed.arena.bytes if target.integers_only and executed.arena is not None else None
    kind = RANDOM if source is None else "samples" if source.synthetic is None else "synthetic samples"
    return Verification(f"{runtime.name} {runtime.version()}", outputs, found, latency, kind, simulation, arena, steps)


def _check_integers_only(path: Path, target: str) -> None:
    """Raise VerificationError for a file with operators on floats, of a target that has none."""
    left = float_ops(path)
    if left:
        raise VerificationError(
            f"the file has {len(left)} operators on floats, {some(left)}, and {target} computes with integers alone: the "
            "writer put them there; report this model"
        )


def _planned_float(plan: Plan, hub: Hub) -> Counter[str]:
    """How many nodes of each op the plan leaves in float, those inside of loops and conditions among them."""
    wide = any(site.spec is not None and site.spec.dtype.bits > 8 for site in plan.edges().values())
    forms = (*_FLOAT_FORMS, "integer") if wide else _FLOAT_FORMS  # kernels for 16-bit activations do not exist
    planned = Counter(n.op for n in plan.nodes.values() if n.form in forms)
    # ONNX Runtime executes the multiplication of a balanced float edge as a depthwise convolution when it can.
    planned["Conv"] += sum(s.balance is not None and s.readers is not None for s in plan.edges().values())
    _, *inner = all_graphs(hub.model)
    return planned + Counter(node.op_type for graph in inner for node in graph)


def _check_no_worse(
    output: OutputComparison, meant: OutputComparison, agreement: OutputComparison, runtime: Runtime
) -> None:
    """Raise VerificationError for an output that is further from float in the runtime than as the plan means it.

    Where float layers lie between integers, one integer that a sum in another order rounds otherwise becomes noise as large as
    that of quantization: the two differ, but neither is worse.
    """
    if output.sqnr < meant.sqnr - _WORSE:
        raise VerificationError(
            f"output {output.name} keeps {output.sqnr:.1f} dB of the float model in {runtime.title}, where the plan means "
            f"{meant.sqnr:.1f} dB, and {agreement.sqnr:.1f} dB of what the plan means: kernels compute something else; report "
            "this model"
        )


def _float_in(format: ModelFormat, runtime: Runtime, hub: Hub, path: Path, details: Details) -> Session:
    """The float model in the runtime of a quantized one, to be timed beside it."""
    beside = path.with_name(f"float-{path.name}")
    try:
        format.write(hub.clone().model, beside, details)
        return runtime.open_session(beside)
    finally:
        beside.unlink(missing_ok=True)
