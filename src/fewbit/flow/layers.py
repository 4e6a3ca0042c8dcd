"""The inner values of a model, whatever runs it: what a comparison layer by layer looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fewbit.graph.load import load
from fewbit.graph.shapes import infer_shapes
from fewbit.runtimes import litert, onnxruntime
from fewbit.runtimes.litert_file import read_graphs
from fewbit.runtimes.session import Feed
from fewbit.runtimes.table import EXECUTORCH, LITERT, runtime_of

Look = Callable[[Feed], "dict[str, NDArray[Any]]"]
"""Runs the model on a feed of its own and gives the values that are watched, by name."""


@dataclass(frozen=True, slots=True)
class Step:
    """A node: its name and op, and the names of the values that it reads and makes."""

    node: str
    op: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]


class Layers(Protocol):
    """steps: the nodes in the order of computation. names: the real values that they make, less the model's ends."""

    @property
    def steps(self) -> Sequence[Step]: ...

    @property
    def names(self) -> Sequence[str]: ...

    def watch(self, names: Sequence[str]) -> Look: ...


def layers_of(model: Any, *, normalize: bool) -> Layers:
    """The layers of a file or of a model in memory.

    Args:
        normalize: of ONNX, whether to look at the hub's form of it.
    """
    runtime = runtime_of(model) if isinstance(model, str | Path) else None
    if runtime is LITERT:
        return _LiteRtLayers(model)
    if runtime is EXECUTORCH:
        return _NoLayers()
    return _OnnxLayers(model, normalize)


class _OnnxLayers:
    """Of a graph of ONNX."""

    def __init__(self, model: Any, normalize: bool) -> None:
        import onnx_ir as ir

        self._hub = load(model, normalize=normalize)
        if not normalize:
            infer_shapes(self._hub.model)  # the types of inner values are not stored
        self.steps = [
            Step(
                str(node.name),
                node.op_type,
                tuple(str(v.name) for v in node.inputs if v is not None),
                tuple(str(v.name) for v in node.outputs),
            )
            for node in self._hub.nodes()
        ]
        ends = {info.name for info in self._hub.outputs}
        made = [o for node in self._hub.nodes() for o in node.outputs if o.dtype == ir.DataType.FLOAT]
        self.names = [str(value.name) for value in made if value.name not in ends]

    def watch(self, names: Sequence[str]) -> Look:
        copy = self._hub.clone()
        values = {str(v.name): v for v in copy.values()}
        copy.graph.outputs.clear()
        copy.graph.outputs.extend(values[name] for name in names)
        # Unoptimized: a fused node would not make the value, and the arithmetic is that of the QDQ graph.
        session = onnxruntime.open_session(copy.model, optimize=False)
        return lambda feed: dict(zip(names, session.run(feed), strict=True))


class _NoLayers:
    """Of a file of ExecuTorch, whose runtime gives its outputs alone."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.names: list[str] = []

    def watch(self, names: Sequence[str]) -> Look:
        return lambda feed: {}


class _LiteRtLayers:
    """Of a file of LiteRT."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        graph = read_graphs(path)[0]
        tensors = graph.tensors
        self.steps = [
            Step(
                tensors[op.outputs[0]].name if op.outputs else "",
                op.name,
                tuple(tensors[i].name for i in op.inputs if i >= 0),
                tuple(tensors[i].name for i in op.outputs),
            )
            for op in graph.ops
        ]
        made = [i for op in graph.ops for i in op.outputs if i not in graph.outputs]
        self.names = [tensors[i].name for i in made if tensors[i].quantized or tensors[i].dtype == "float32"]

    def watch(self, names: Sequence[str]) -> Look:
        # Inside of what XNNPACK runs there are no tensors to look at.
        session = litert.open_session(self._path, kernels="builtin", keep=True)

        def look(feed: Feed) -> dict[str, NDArray[Any]]:
            session.run(feed)
            return session.values(names)

        return look
