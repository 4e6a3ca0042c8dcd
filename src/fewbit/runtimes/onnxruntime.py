"""ONNX Runtime: sessions, and the kernels that an optimized model really runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewbit.errors import DataError, ModelError
from fewbit.runtimes.session import Ends, Feed, Outputs, one_line

if TYPE_CHECKING:
    import onnx_ir as ir

NAME = "onnxruntime"

FLUSH_DENORMALS = "FEWBIT_FLUSH_DENORMALS"
"""Environment variable: with 1, denormals count as zero in the runtime, so that a float model full of them is not timed as ten
times too slow. The runtime sets the mode of the calling thread and leaves it so: the commands, whose process is their own, ask
for it; the Python functions do not touch their caller's arithmetic."""


SIMULATION = {"session.disable_quant_qdq": "1"}
"""Options of a session that computes QuantizeLinear and DequantizeLinear as they are written. Otherwise the runtime makes
integer kernels of a convolution between two of them, and for that quantizes its float weights, with one scale and in its
own way."""


class OrtSession:
    """One loaded model. `run` takes a feed with at least the model's inputs and gives all outputs in order."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs: list[str] = [i.name for i in session.get_inputs()]
        self.outputs: list[str] = [o.name for o in session.get_outputs()]

    def run(self, feed: Feed) -> Outputs:
        """The outputs for one feed.

        Raises:
            DataError: the runtime refuses the feed; its own words are in the message.
        """
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        failures = (state.Fail, state.InvalidArgument, state.RuntimeException, state.EPFail, RuntimeError, ValueError)
        try:
            return list(self._session.run(None, {name: feed[name] for name in self.inputs}))
        except KeyError as error:
            raise DataError(f"input {error} is missing from the sample; the model wants {self.inputs}") from error
        except failures as error:
            raise DataError(f"ONNX Runtime cannot run the model on this sample: {one_line(error)}") from error

    def timed(self, feed: Feed) -> Callable[[], object]:
        """One run on this feed."""
        return partial(self.run, feed)

    def bound(self, feed: Feed) -> Callable[[], object]:
        """One run on this feed whose outputs go where they went before: without the memory that a caller keeps, as inside of a
        model."""
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        for name in self.inputs:
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(np.asarray(feed[name], order="C")))
        for name, array in zip(self.outputs, self.run(feed), strict=True):
            binding.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(np.asarray(array, order="C")))
        return partial(self._session.run_with_iobinding, binding)

    def input_shapes(self) -> Ends:
        return _ends(self._session.get_inputs())

    def output_shapes(self) -> Ends:
        return _ends(self._session.get_outputs())


def open_session(
    model: str | Path | bytes | ir.Model,
    *,
    threads: int = 1,
    optimize: bool = True,
    optimized_path: str | None = None,
    config: Mapping[str, str] | None = None,
    arena: bool = True,
) -> OrtSession:
    """Load a model.

    Args:
        model: a path, serialized bytes, or an onnx-ir model (larger than 2 GB: by path).
        threads: of one operator; 0 lets the runtime choose.
        optimize: False runs the graph as it is written.
        optimized_path: where the runtime writes the graph that it will execute.
        arena: whether the runtime keeps memory for its next run. Outputs that are kept lie in it, and one of them keeps all
            of it: False for sessions whose outputs outlive them.

    Raises:
        ModelError: the runtime cannot load it; its own words are in the message.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = arena
    options.intra_op_num_threads = threads
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if os.environ.get(FLUSH_DENORMALS) == "1":
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads == 1 else "0")
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    if optimized_path is not None:
        options.optimized_model_filepath = optimized_path
    source: str | bytes
    if isinstance(model, (str, Path)):
        source = os.fspath(model)
    elif isinstance(model, bytes):
        source = model
    else:
        from fewbit.graph.save import to_bytes

        source = to_bytes(model)
    failures = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
        RuntimeError,
    )
    try:
        return OrtSession(onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"]))
    except failures as error:
        name = model if isinstance(model, (str, Path)) else "the model"
        raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot load {name}: {one_line(error)}") from error


def executed_graph(model: str | Path) -> list[tuple[str, str, str]]:
    """(node name, domain, op type) of every node of the graph that the runtime executes for this model."""
    import onnx_ir

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "optimized.onnx")
        open_session(model, optimized_path=path)
        optimized = onnx_ir.load(path)
        return [(node.name or "", node.domain, node.op_type) for node in optimized.graph.all_nodes()]


def preload() -> None:
    """Import the runtime."""
    import onnxruntime  # noqa: F401


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _ends(nodes: Any) -> Ends:
    return {n.name: (np.dtype(_NUMPY_TYPES[n.type]) if n.type in _NUMPY_TYPES else None, list(n.shape)) for n in nodes}


_NUMPY_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}
