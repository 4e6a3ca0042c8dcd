"""Nodes that compute with constants alone are computed once, by ONNX Runtime, and replaced by the result.

All of them run in one session. Not folded: random operators, operators outside ONNX's domain, quantize and dequantize
(the compressed form is wanted), whatever would make the model more than 1 MB larger, and what would untie a weight: a second
form of one that a layer reads as it is. Layers that read the same form, each by a node of its own, share its result.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.edit import add_constant, detach
from fewbit.graph.hub import ONNX_DOMAINS, Hub, shape_of
from fewbit.graph.info import RuleOutcome
from fewbit.graph.ops import category_of

NAME = "fold_constants"

MAX_GROWTH = 1 << 20
"""Bytes by which the result of a node may exceed its inputs."""

_MOST_IN_ALL = 256 << 20
_MOST_TIMES = 4
"""What all results may take: so many bytes, and so many times those of the model's own constants. A file of a megabyte can
ask for thousands of tensors of `MAX_GROWTH`."""

_READ_AT_MOST = 64 << 20
"""Bytes of an external constant that folding reads; larger ones stay in their file."""

_SMALL = 1024
"""Bytes of inputs below which an operator that does not grow them on purpose is folded without knowing its size."""

_GROWING = frozenset(
    (
        *("Expand", "Tile", "ConstantOfShape", "Range", "Resize", "Upsample", "Pad", "OneHot", "EyeLike", "Einsum"),
        *("ConvTranspose", "Gather", "GatherND", "MatMul", "ScatterND"),
    )
)
_LEFT_ALONE = frozenset(("control", "random", "quantization"))


class _CannotRunError(Exception):
    """ONNX Runtime refuses these nodes. Its own exceptions have no common base."""


def apply(hub: Hub, *, always: bool = False) -> list[RuleOutcome]:
    """always: whatever the size of a known result, and weights come untied: for formats whose runtimes fold nothing."""
    nodes: list[ir.Node] = []
    known: dict[ir.Value, int] = {}
    outcomes = []
    stored = sum(v.const_value.nbytes for v in hub.graph.initializers.values() if v.const_value)
    most = _MOST_IN_ALL + _MOST_TIMES * max(stored - hub.folded_bytes, 0)
    for node in hub.nodes():
        if not _is_constant(node, known):
            continue
        result = sum(max(_bytes(output), 0) for output in node.outputs)
        sized = all(_bytes(output) >= 0 for output in node.outputs if output.name)
        obstacle = None if always and sized and _makes_tensors(node) else _obstacle(hub, node, known)
        if obstacle is None and hub.folded_bytes + result > most:
            obstacle = f"its {result} bytes and those of nodes before it are more than {most}"
        if obstacle is None:
            hub.folded_bytes += result
            nodes.append(node)
            known.update({output: _bytes(output) for output in node.outputs})
        else:
            outcomes.append(RuleOutcome(NAME, str(node.name), False, obstacle))
    _share(nodes)
    try:
        outcomes += _fold(hub, nodes)
    except _CannotRunError:
        # One node that cannot be run spoils the session for all: find it by running each alone.
        for node in nodes:
            if all(value is None or value.const_value is not None for value in node.inputs):
                try:
                    outcomes += _fold(hub, [node])
                except _CannotRunError as error:
                    outcomes.append(RuleOutcome(NAME, str(node.name), False, f"cannot be run: {error}"))
    return outcomes


def _share(nodes: list[ir.Node]) -> None:
    """Let the readers of nodes that compute the same read the first of them: two copies of a tied weight would be two."""
    import onnx

    first: dict[bytes, ir.Node] = {}
    for node in nodes:
        proto = onnx.NodeProto()
        ir.serde.serialize_node_into(proto, node)
        proto.ClearField("name")
        wanted = [bool(name) for name in proto.output]
        del proto.output[:]
        one = first.setdefault(bytes(wanted) + proto.SerializeToString(), node)
        if one is not node and not any(output.is_graph_output() for output in node.outputs):
            for output, same in zip(node.outputs, one.outputs, strict=True):
                output.replace_all_uses_with(same)


def _fold(hub: Hub, nodes: list[ir.Node]) -> list[RuleOutcome]:
    """Replace what these nodes make and others read. Raises _CannotRunError when they cannot be run."""
    inside = set(nodes)
    wanted = [
        output
        for node in nodes
        for output in node.outputs
        if output.is_graph_output() or any(use.node not in inside for use in output.uses())
    ]
    if not wanted:
        return []
    outcomes = [_replace(hub, v, array) for v, array in zip(wanted, _run(hub, nodes, wanted), strict=True)]
    for node in reversed(nodes):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            detach(hub.graph, [node])
    return outcomes


def _is_constant(node: ir.Node, known: dict[ir.Value, int]) -> bool:
    inputs = [value for value in node.inputs if value is not None]
    if not inputs or category_of(node) in _LEFT_ALONE or node.domain not in ONNX_DOMAINS:
        return False
    return all(value.const_value is not None or value in known for value in inputs)


def _obstacle(hub: Hub, node: ir.Node, known: dict[ir.Value, int]) -> str | None:
    """Why this node with constant inputs stays."""
    total = 0
    for value in set(node.inputs):
        if value is None:
            continue
        tensor = value.const_value
        size = max(known[value], 0) if tensor is None else tensor.nbytes
        if isinstance(tensor, ir.ExternalTensor) and size > _READ_AT_MOST:
            return f"the {size} bytes of {value.name!r} are not worth reading for it"
        # The input goes away only if nothing else reads it.
        total += size if len(value.uses()) == 1 or size <= MAX_GROWTH else 0
    if not _makes_tensors(node):
        return "it makes a sequence, not a tensor"
    result = sum(_bytes(output) for output in node.outputs if output.name)
    if result < 0 and (node.op_type in _GROWING or total > _SMALL):
        return "the size of its result is not known"
    tied = next((v for v in node.inputs if v is not None and _is_weight_elsewhere(node, v, result, known)), None)
    if tied is not None:
        return f"{tied.name!r} is a weight of another layer as it is, and would not be the same one any more"
    if result > total + MAX_GROWTH and not _widens(node, result, total):
        return f"it would grow the model from {total} to {result} bytes"
    return None


def _makes_tensors(node: ir.Node) -> bool:
    return all(output.type is None or isinstance(output.type, ir.TensorType) for output in node.outputs)


def _is_weight_elsewhere(node: ir.Node, value: ir.Value, result: int, known: dict[ir.Value, int]) -> bool:
    """Whether a layer reads a constant of which a node makes another form, of no fewer bytes."""
    size = known[value] if value.const_value is None else value.const_value.nbytes
    if result < size or len(shape_of(value) or ()) < 2:
        return False
    readers = (use.node for use in value.uses() if use.node is not node and not known.keys() & set(use.node.outputs))
    return any(
        category_of(reader) == "heavy" or (reader.op_type == "Gather" and reader.inputs[0] is value)
        for reader in readers
    )


def _widens(node: ir.Node, result: int, total: int) -> bool:
    """A Cast of stored float16 weights: they are wanted as float32."""
    return node.op_type == "Cast" and result <= 2 * total


def _bytes(value: ir.Value) -> int:
    """Size of a tensor; very negative when it is not known."""
    shape = shape_of(value)
    unknown = -(1 << 60)
    if shape is None or value.dtype is None or not all(isinstance(size, int) for size in shape):
        return unknown
    bits = 64 if value.dtype == ir.DataType.STRING else value.dtype.bitwidth
    return int(np.prod(shape, dtype=np.float64) * bits / 8)  # type: ignore[arg-type]


def _run(hub: Hub, nodes: list[ir.Node], wanted: list[ir.Value]) -> list[np.ndarray]:
    """The values, from one unoptimized session over copies of the nodes. Raises _CannotRunError."""
    import onnx
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    graph = onnx.GraphProto(name="constants")
    seen: set[str] = set()
    for node in nodes:
        ir.serde.serialize_node_into(graph.node.add(), node)
        for value in node.inputs:
            if value is not None and value.const_value is not None and value.name not in seen:
                seen.add(str(value.name))
                tensor = value.const_value
                if isinstance(tensor, ir.ExternalTensor):
                    tensor = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)
                proto = graph.initializer.add()
                ir.serde.serialize_tensor_into(proto, tensor)
                proto.name = str(value.name)
    for value in wanted:
        graph.output.add(name=str(value.name))
    opsets = [onnx.OperatorSetIdProto(domain=d, version=v) for d, v in hub.model.opset_imports.items() if v is not None]
    model = onnx.ModelProto(ir_version=hub.model.ir_version, graph=graph, opset_import=opsets)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run([str(v.name) for v in wanted], {})  # type: ignore[no-any-return]
    except (
        *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException),
        *(state.EPFail, RuntimeError, ValueError),
    ) as error:
        raise _CannotRunError(str(error).splitlines()[0]) from error


def _replace(hub: Hub, output: ir.Value, array: np.ndarray) -> RuleOutcome:
    node = output.producer()
    name = "" if node is None else str(node.name)
    if output.is_graph_output():
        return RuleOutcome(NAME, name, False, f"it makes the graph output {output.name!r}")
    if array.dtype == object:
        return RuleOutcome(NAME, name, False, "it makes strings")
    stem = str(output.name)
    output.name = None
    hub.release_name(stem)
    output.replace_all_uses_with(add_constant(hub, array, stem))
    return RuleOutcome(NAME, name, True, f"constant {array.dtype} {list(array.shape)}")
