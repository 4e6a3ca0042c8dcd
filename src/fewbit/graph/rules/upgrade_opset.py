"""Models of operator sets before 13 are converted to 17, so that no other rule has to know old forms of operators.

From 13 on Quantize- and DequantizeLinear are per channel, and axes and bounds are inputs everywhere; a newer model is
left at its own version. The converter (onnx.version_converter) gets the model without its weights, so its size does not
matter.
"""

from __future__ import annotations

import onnx_ir as ir

from fewbit.errors import ModelError
from fewbit.graph.checks import check_proto
from fewbit.graph.edit import is_op
from fewbit.graph.hub import ONNX_DOMAINS, Hub, all_graphs
from fewbit.graph.info import RuleOutcome
from fewbit.graph.shapes import hollow_proto, infer_shapes

NAME = "upgrade_opset"

OLDEST = 13
TARGET = 17


def apply(hub: Hub) -> list[RuleOutcome]:
    before = hub.opset
    if before == 0 or before >= OLDEST:
        return []
    import onnx
    import onnx.version_converter

    _shield_captures(hub)
    infer_shapes(hub.model)  # some adapters need ranks
    tensors = {name: v.const_value for graph in all_graphs(hub.model) for name, v in graph.initializers.items()}
    try:
        proto = onnx.version_converter.convert_version(hollow_proto(hub.model), TARGET)
        check_proto(proto, "the converted model")
        converted = ir.from_proto(proto)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError, ir.serde.SerdeError) as error:
        raise ModelError(_sorry(before, _first_line(error))) from error
    _restore(converted, hub.model, tensors)
    problem = _difference(hub.model, converted)
    if problem is not None:
        raise ModelError(_sorry(before, problem))
    hub.model = converted
    hub.rename()
    return [RuleOutcome(NAME, "", True, f"opset {before} became {TARGET}")]


def _shield_captures(hub: Hub) -> None:
    """Let subgraphs capture the outputs of Identity nodes alone.

    The converter stops with an internal error when it rewrites a node whose output a subgraph captures (onnx 1.23).
    """
    for graph in list(all_graphs(hub.model)):
        for node in list(graph):
            if is_op(node, "Identity"):
                continue
            for value in node.outputs:
                inside = [use for use in value.uses() if use.node.graph is not graph]
                if inside:
                    shield = ir.Node("", "Identity", [value])
                    shield.outputs[0].name = hub.fresh_name(f"{value.name}_captured")
                    graph.insert_after(node, shield)
                    for use in inside:
                        use.node.replace_input_with(use.idx, shield.outputs[0])
    hub.rename()


def _sorry(before: int, why: str) -> str:
    return (
        f"the model has opset {before}, older than {OLDEST}, and cannot be converted ({why}); "
        f"export it again with opset {TARGET}"
    )


def _first_line(error: BaseException) -> str:
    """The converter's messages begin with its source file and the condition that failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("failed: ")[2] if lines else type(error).__name__


def _restore(converted: ir.Model, original: ir.Model, tensors: dict[str, ir.TensorProtocol | None]) -> None:
    """Put the weights back that the converter did not get, and what it forgets."""
    for graph in all_graphs(converted):
        for name, value in graph.initializers.items():
            kept = tensors.get(name)
            made = value.const_value
            if kept is not None and made is not None and made.dtype == kept.dtype and made.shape == kept.shape:
                value.const_value = kept
    converted.metadata_props.update(original.metadata_props)
    converted.producer_name, converted.producer_version = original.producer_name, original.producer_version
    converted.ir_version = max(original.ir_version, 8)  # 8 came with opset 17
    for domain, version in original.opset_imports.items():
        if domain not in ONNX_DOMAINS:
            converted.graph.opset_imports.setdefault(domain, version)


def _difference(original: ir.Model, converted: ir.Model) -> str | None:
    """What the converter has lost, or None."""
    for kind, before, after in (
        ("inputs", original.graph.inputs, converted.graph.inputs),
        ("outputs", original.graph.outputs, converted.graph.outputs),
    ):
        if [v.name for v in before] != [v.name for v in after]:
            return f"the {kind} would be {[v.name for v in after]}, not {[v.name for v in before]}"
        for old, new in zip(before, after, strict=True):
            if old.shape is not None and new.shape is not None and len(old.shape) != len(new.shape):
                return f"{old.name!r} would have {len(new.shape)} axes, not {len(old.shape)}"
    lost = {n.op_identifier() for n in original.graph.all_nodes()} - {
        n.op_identifier() for n in converted.graph.all_nodes()
    }
    custom = sorted(f"{domain}.{name}" for domain, name, _ in lost if domain not in ONNX_DOMAINS)
    return f"the converter loses {', '.join(custom)}" if custom else None
