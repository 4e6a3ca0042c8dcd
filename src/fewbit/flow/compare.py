"""Compare a float and a quantized model: where the error arises, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fewbit.errors import ModelError
from fewbit.flow.faces import in_layout_of, own_feed, samples_for_all
from fewbit.flow.layers import Step, layers_of
from fewbit.flow.opening import ImportOptions, on_disk, open_models
from fewbit.measure.compare import OutputComparison
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.table import open_model

DEFAULT_SAMPLES = 8
_QUANTIZED = "the quantized model"


@dataclass(frozen=True, slots=True)
class CompareResult:
    """Outputs, and inner values of the same name in both models, in the order of computation.

    lost: for an inner value, how many dB it has less than the worst of the values that its node reads.
    """

    outputs: Sequence[OutputComparison]
    layers: Sequence[LayerComparison]
    samples: int
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "outputs": [o.to_dict() for o in self.outputs],
            "layers": [x.to_dict() for x in self.layers],
            "samples": self.samples,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """One inner value: its node and op in the float model, and how far it is off."""

    node: str
    op: str
    comparison: OutputComparison
    lost: float | None

    def to_dict(self) -> dict[str, Any]:
        return {"node": self.node, "op": self.op, "lost_db": self.lost, **self.comparison.to_dict()}


def compare(
    float_model: str | Path | Any,
    quantized: str | Path | Any,
    data: Any,
    *,
    limit: int | None = None,
    preprocess: str | None = None,
    progress: Progress = SILENT,
) -> CompareResult:
    """Run both models on the same samples and compare outputs and all inner values that share a name.

    Each is a path, ONNX or LiteRT, or a model in memory. Inner names are kept by `fewbit quantize --keep-names`; without them
    only the outputs can be compared. Outputs are those of the runtimes as they run the files; inner values are computed by
    ONNX Runtime without optimization and by LiteRT without XNNPACK, for fused kernels do not show them.

    Raises:
        InputError: wrong models or data; models whose inputs or outputs do not match.
    """
    float_model, quantized = open_models([float_model, quantized], ImportOptions(), data, to_run=True)
    with on_disk(float_model) as left_path, on_disk(quantized) as right_path:
        sessions = {label: open_model(p) for label, p in (("the float model", left_path), (_QUANTIZED, right_path))}
    source, (real, other), notes = samples_for_all(
        sessions, data, limit=limit or DEFAULT_SAMPLES, preprocess=preprocess, purpose="comparison"
    )
    # The hub's form of the float model is what was quantized: names of fused nodes agree with it.
    left, right = layers_of(float_model, normalize=True), layers_of(quantized, normalize=False)
    names = [name for name in left.names if name in set(right.names)]
    looks = [(s, x.watch(names)) for s, x in ((real, left), (other, right))] if names else []
    if not names:
        notes.append(
            "the models share no names of inner values: only outputs are compared (fewbit quantize --keep-names keeps them)"
        )
    outputs = [OutputComparison(name) for name in real.outputs]
    layers = {name: OutputComparison(name) for name in names}
    samples = 0
    with progress.task("comparing", source.count) as advance:
        for feed in source.feeds():
            samples += 1
            for comparison, a, b in zip(outputs, real.run(feed), other.run(feed), strict=True):
                if a.shape != b.shape:
                    raise ModelError(
                        f"output {comparison.name} has shape {b.shape} in {_QUANTIZED}, {a.shape} in float"
                    )
                comparison.update(a, b)
            if looks:
                _update(layers, *(look(own_feed(session, feed)) for session, look in looks))
            advance(1)
    seen = {name: comparison for name, comparison in layers.items() if comparison.samples}
    return CompareResult(outputs, _order(left.steps, seen), samples, notes)


def _update(
    layers: Mapping[str, OutputComparison], real: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]
) -> None:
    for name, comparison in layers.items():
        if name in real and name in other:
            b = in_layout_of(real[name], other[name])
            if b is not None:
                comparison.update(real[name], b)


def _order(steps: Sequence[Step], layers: Mapping[str, OutputComparison]) -> list[LayerComparison]:
    known: dict[str, float] = {}
    result = []
    for step in steps:
        before = [known[name] for name in step.reads if name in known]
        for name in step.makes:
            if name in layers:
                comparison = layers[name]
                known[name] = comparison.sqnr
                lost = min(before) - comparison.sqnr if before else None
                finite = lost is not None and abs(lost) < 1e3
                result.append(LayerComparison(step.node, step.op, comparison, lost if finite else None))
            elif before:
                known[name] = min(before)
    return result
