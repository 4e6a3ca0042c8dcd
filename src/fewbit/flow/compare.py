"""Compare a float and a quantized model: where the error arises, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbit.errors import ModelError
from fewbit.flow.common import samples_for, session_inputs
from fewbit.flow.opening import ImportOptions, on_disk, open_models
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.shapes import infer_shapes
from fewbit.measure.compare import OutputComparison
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.onnxruntime import open_session

DEFAULT_SAMPLES = 8


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

    Each is a path, or a model in memory. Inner names are kept by `fewbit quantize --keep-names`; without them only the
    outputs can be compared.

    Raises:
        InputError: wrong models or data; models with different outputs.
    """
    float_model, quantized = open_models([float_model, quantized], ImportOptions(), data)
    with on_disk(float_model) as left_path, on_disk(quantized) as right_path:
        real, other = open_session(left_path), open_session(right_path)
    if real.outputs != other.outputs:
        raise ModelError(
            f"the models have different outputs, {', '.join(real.outputs)} and {', '.join(other.outputs)}: "
            "compare a model with its own quantized form"
        )
    source = samples_for(
        data, session_inputs(real), limit=limit or DEFAULT_SAMPLES, preprocess=preprocess, purpose="comparison"
    )
    # The hub's form of the float model is what was quantized: names of fused nodes agree with it.
    left, right = load(float_model), load(quantized, normalize=False)
    infer_shapes(right.model)  # the types of inner values are not stored
    names = [name for name in _common(left, right) if name not in real.outputs]
    notes = [] if names else ["the quantized model has no inner names: quantize with --keep-names to see the layers"]
    sessions = _tapped(left, names), _tapped(right, names)
    outputs = [OutputComparison(name) for name in real.outputs]
    layers = {name: OutputComparison(name) for name in names}
    samples = 0
    with progress.task("comparing", source.count) as advance:
        for feed in source.feeds():
            samples += 1
            for comparison, a, b in zip(outputs, real.run(feed), other.run(feed), strict=True):
                comparison.update(a, b)
            if names:
                for name, a, b in zip(names, *(s.run(feed) for s in sessions), strict=True):
                    layers[name].update(a, b)
            advance(1)
    return CompareResult(outputs, _order(left, layers), samples, notes)


def _common(left: Hub, right: Hub) -> list[str]:
    """Float values that nodes of both models make under one name, in the order of the float model."""
    import onnx_ir as ir

    made = {str(o.name) for node in right.nodes() for o in node.outputs if o.dtype == ir.DataType.FLOAT}
    ours = [str(o.name) for node in left.nodes() for o in node.outputs if o.dtype == ir.DataType.FLOAT]
    return [name for name in ours if name in made]


def _tapped(hub: Hub, names: Sequence[str]) -> Any:
    copy = hub.clone()
    values = {str(v.name): v for v in copy.values()}
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in names)
    # Unoptimized: a fused node would not make the value, and the arithmetic is that of the QDQ graph.
    return open_session(copy.model, optimize=False) if names else None


def _order(hub: Hub, layers: dict[str, OutputComparison]) -> list[LayerComparison]:
    known: dict[str, float] = {}
    result = []
    for node in hub.nodes():
        before = [known[str(v.name)] for v in node.inputs if v is not None and str(v.name) in known]
        for output in node.outputs:
            name = str(output.name)
            if name in layers:
                comparison = layers[name]
                known[name] = comparison.sqnr
                lost = min(before) - comparison.sqnr if before else None
                finite = lost is not None and abs(lost) < 1e3
                result.append(LayerComparison(str(node.name), node.op_type, comparison, lost if finite else None))
            elif before:
                known[name] = min(before)
    return result
