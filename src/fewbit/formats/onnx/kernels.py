"""The kernels that ONNX Runtime executes for a file, each as a model of one node.

They are cut out of the graph that the runtime itself writes once it has optimized a model: what it fuses is fused, and its
blocked layouts, with the nodes that change from one to another, are there.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fewbit.runtimes.kernel import Kernel, kernel_digest
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.session import Feed

_ADDED = re.compile(r"(_token_\d+|_nchwc)+$")  # what the runtime adds to names that are taken


def onnx_kernels(path: Path, feed: Feed) -> list[Kernel]:
    """The kernels of a file, in the order of its graph, with what reaches each of them for one feed.

    Nodes that hold graphs of their own (loops, conditions) are left out: no format of ours changes them as a whole.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = str(Path(folder) / "optimized.onnx")
        open_session(path, optimized_path=optimized)
        model = onnx.load(optimized)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    values = _values(model, feed)
    found = []
    for node in model.graph.node:
        if all(name in constants for name in node.input if name):  # expands weights when the file is loaded
            constants |= {n: onnx.numpy_helper.from_array(values[n], n) for n in node.output if n in values}
            continue
        inner = any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
        given = [name for name in dict.fromkeys(node.input) if name and name not in constants]
        if inner or not given or any(name not in values for name in [*given, *filter(None, node.output)]):
            continue
        found.append(_kernel(model, node, given, constants, values))
    return found


def timed_onnx_kernel(kernel: Kernel) -> Callable[[], object]:
    """One run of a kernel on one thread, as it is written, into memory that is there: as inside of a model."""
    return open_session(kernel.model, threads=1, optimize=False).bound(kernel.feed)


def _kernel(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    given: list[str],
    constants: Mapping[str, onnx.TensorProto],
    values: Mapping[str, NDArray[Any]],
) -> Kernel:
    made = [name for name in node.output if name]
    held = [constants[name] for name in dict.fromkeys(node.input) if name in constants]
    inputs = [_end(name, constants, values) for name in node.input]
    outputs = [_end(name, constants, values) for name in node.output]
    attributes = sorted(a.SerializeToString().hex() for a in node.attribute)
    op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    feed = {name: values[name] for name in given}
    return Kernel(
        kernel_digest(op, attributes, inputs, outputs),
        op,
        tuple(dict.fromkeys(_ADDED.sub("", name) for name in (node.name, *made))),
        _model(node, feed, {name: values[name] for name in made}, held, [*model.opset_import], model.ir_version),
        feed,
    )


def _end(name: str, constants: Mapping[str, onnx.TensorProto], values: Mapping[str, NDArray[Any]]) -> Any:
    if name in constants:
        return [int(constants[name].data_type), list(constants[name].dims), True]
    return [str(values[name].dtype), list(values[name].shape), False] if name in values else None


def _model(
    node: onnx.NodeProto,
    given: Feed,
    made: Mapping[str, NDArray[Any]],
    constants: list[onnx.TensorProto],
    opsets: list[onnx.OperatorSetIdProto],
    version: int,
) -> bytes:
    def info(name: str, array: NDArray[Any]) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    graph = onnx.helper.make_graph(
        [node], "kernel", [info(*item) for item in given.items()], [info(*item) for item in made.items()], constants
    )
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=version).SerializeToString()


def _values(model: onnx.ModelProto, feed: Feed) -> dict[str, NDArray[Any]]:
    """Every activation of an optimized graph for one feed."""
    known = {output.name for output in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name]
    for name in made:
        if name not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = open_session(model.SerializeToString(), optimize=False, arena=False)
    outputs = dict(zip(session.outputs, session.run(feed), strict=True))
    return {**{name: np.asarray(array) for name, array in feed.items()}, **outputs}
