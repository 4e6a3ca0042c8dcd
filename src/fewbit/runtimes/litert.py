"""LiteRT: sessions over its interpreter."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import dequantize, quantize
from fewbit.errors import DataError, ModelError
from fewbit.extras import load_extra
from fewbit.runtimes.quiet import quiet_native
from fewbit.runtimes.session import Ends, Feed, Outputs, one_line
from fewbit.spec import DType, QParams, QSpec

NAME = "litert"
MAGIC = b"TFL3"
"""Of a file of LiteRT, at offset 4."""

PURPOSE = "running a LiteRT model"

Kernels = Literal["xnnpack", "builtin", "reference"]
"""xnnpack: XNNPACK runs what it can, LiteRT's own kernels the rest. builtin: these alone. reference: their plain C++ forms."""

_RESOLVERS: dict[Kernels, str] = {
    "xnnpack": "BUILTIN",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


@dataclass(frozen=True, slots=True)
class End:
    """An input or output as the file stores it.

    index: of its tensor. shape: -1 where any size goes. params: of one that is quantized.
    """

    name: str
    index: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    params: QParams | None


class LiteRtSession:
    """One loaded model, for one thread at a time.

    It speaks real numbers: an input or output of 8 or 16 bits that the file quantizes is float32 here, by the file's own
    scale and zero point, so that a metric or a comparison sees the same numbers whatever the format is. A feed of just the
    stored dtype is taken for the stored integers. `stored=True` when opening gives outputs as they are stored.

    Names are those of the file's signature, where there is one for its main graph, else those of its tensors. Variables,
    the states of recurrent layers, start anew in every run: samples are independent.
    """

    def __init__(self, interpreter: Any, stored: bool = False) -> None:
        self._interpreter, self._as_stored = interpreter, stored
        given, made = interpreter.get_input_details(), interpreter.get_output_details()
        names = _signature_names(interpreter, given, made)
        self._ends = [_end(detail, names[0]) for detail in given]
        self._made = [_end(detail, names[1]) for detail in made]
        self._shapes: list[tuple[int, ...]] | None = None
        self._tensors: dict[str, End] | None = None
        self.inputs: list[str] = [end.name for end in self._ends]
        self.outputs: list[str] = [end.name for end in self._made]

    def run(self, feed: Feed) -> Outputs:
        """The outputs for one feed, dequantized. Inputs take another shape where the file allows it; samples along the first
        axis of a file that takes one at a time run one after another.

        Raises:
            DataError: an input is missing, or of a wrong shape or dtype; integers that do not fit the input's own; or LiteRT
                refuses the feed, with its own words in the message.
        """
        singles = self._singles(feed)
        if len(singles) > 1:
            return [np.concatenate(parts) for parts in zip(*map(self.run, singles), strict=True)]
        arrays = self._arrays(feed)
        self._resize(arrays)
        self._interpreter.reset_all_variables()
        outputs = self._invoke(arrays)
        if self._as_stored:
            return outputs
        return [_real(end, array) for end, array in zip(self._made, outputs, strict=True)]

    def timed(self, feed: Feed) -> Callable[[], object]:
        """One run on stored integers: the feed is quantized before and outputs stay as they are, as in a device's program."""
        samples = [self._arrays(single) for single in self._singles(feed)]

        def once() -> object:
            outputs: object = None
            for arrays in samples:
                self._resize(arrays)
                outputs = self._invoke(arrays)
            return outputs

        return once

    def input_shapes(self) -> Ends:
        return {end.name: _face(end) for end in self._ends}

    def output_shapes(self) -> Ends:
        return {end.name: _face(end) for end in self._made}

    def _singles(self, feed: Feed) -> list[Feed]:
        """The samples of a feed for a file whose ends all hold one, of the same sizes; else the feed as it is."""
        counts = set()
        for end in self._ends:
            shape = feed[end.name].shape if end.name in feed else ()
            if not shape or end.shape[:1] != (1,) or shape[1:] != end.shape[1:]:
                return [feed]
            counts.add(shape[0])
        if len(counts) != 1 or any(end.shape[:1] != (1,) for end in self._made):
            return [feed]
        return [{name: feed[name][i : i + 1] for name in self.inputs} for i in range(counts.pop())] or [feed]

    def _arrays(self, feed: Feed) -> list[NDArray[Any]]:
        missing = [name for name in self.inputs if name not in feed]
        if missing:
            raise DataError(f"input {missing[0]!r} is missing from the sample; the model wants {self.inputs}")
        return [_stored(end, np.asarray(feed[end.name])) for end in self._ends]

    def _resize(self, arrays: Sequence[NDArray[Any]]) -> None:
        shapes = [array.shape for array in arrays]
        if shapes == self._shapes:
            return
        self._shapes = None  # whatever fails from here on, the next run starts with its own shapes
        try:
            for end, shape in zip(self._ends, shapes, strict=True):
                self._interpreter.resize_tensor_input(end.index, shape)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            given = ", ".join(f"{name} {list(shape)}" for name, shape in zip(self.inputs, shapes, strict=True))
            raise DataError(f"LiteRT cannot run the model with inputs of shape {given}: {one_line(error)}") from error
        self._shapes = shapes

    def _invoke(self, arrays: Sequence[NDArray[Any]]) -> Outputs:
        try:
            for end, array in zip(self._ends, arrays, strict=True):
                self._interpreter.set_tensor(end.index, array)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(end.index) for end in self._made]
        except (ValueError, RuntimeError) as error:
            raise DataError(f"LiteRT cannot run the model on this sample: {one_line(error)}") from error

    def values(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        """What the last run left in tensors, by their names in the file, dequantized; of a session that was opened to `keep`
        them. A name is left out where no tensor or several have it, or its tensor cannot be read."""
        found = {}
        for end in self._named(names):
            try:
                found[end.name] = _real(end, self._interpreter.get_tensor(end.index))
            except ValueError:  # an optional tensor that is absent, or what a kernel needs for itself
                continue
        return found

    def _named(self, names: Iterable[str]) -> list[End]:
        if self._tensors is None:
            details = self._interpreter.get_tensor_details()
            counts = Counter(detail["name"] for detail in details)
            self._tensors = {d["name"]: _end(d, {}) for d in details if counts[d["name"]] == 1}
        return [self._tensors[name] for name in names if name in self._tensors]


def open_session(
    model: str | Path | bytes,
    *,
    threads: int = 1,
    kernels: Kernels = "xnnpack",
    keep: bool = False,
    stored: bool = False,
) -> LiteRtSession:
    """Load a model.

    Args:
        model: a path, or the bytes of a file.
        threads: of one operator; 0 for one a core.
        kernels: which kernels run it.
        keep: whether the values of all tensors outlive a run; those inside of a part that XNNPACK runs never do.
        stored: outputs as the file stores them, integers where it is quantized.

    Raises:
        ModelError: LiteRT cannot load it; its own words are in the message.
        MissingExtraError: ai-edge-litert is not installed.
    """
    with loading(model):
        return LiteRtSession(open_interpreter(model, threads=threads, kernels=kernels, keep=keep), stored)


def open_interpreter(
    model: str | Path | bytes, *, threads: int = 1, kernels: Kernels = "xnnpack", keep: bool = False
) -> Any:
    """LiteRT's interpreter of a model, with its tensors allocated; arguments and errors are those of `open_session`."""
    library = load_extra("ai_edge_litert.interpreter", PURPOSE)
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": os.fspath(model)}
    with loading(model), quiet_native(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kept tensors take memory
        interpreter = library.Interpreter(
            **source,
            num_threads=threads or os.cpu_count() or 1,
            experimental_op_resolver_type=getattr(library.OpResolverType, _RESOLVERS[kernels]),
            experimental_preserve_all_tensors=keep,
        )
        _allocate(interpreter)
    return interpreter


@contextmanager
def loading(model: str | Path | bytes) -> Iterator[None]:
    """Make a ModelError of what LiteRT raises in the block, names that are no text among it."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        name = "the model" if isinstance(model, bytes) else model
        raise ModelError(f"LiteRT {version()} cannot load {name}: {one_line(error)}") from error


def _allocate(interpreter: Any) -> None:
    """Allocate tensors, with sizes of 1 where any size goes: if these do not, those of a feed may."""
    try:
        interpreter.allocate_tensors()
    except RuntimeError:
        if not any((detail["shape_signature"] < 0).any() for detail in interpreter.get_input_details()):
            raise


def preload() -> None:
    """Import the runtime."""
    load_extra("ai_edge_litert.interpreter", PURPOSE)


def version() -> str:
    return str(load_extra("ai_edge_litert", PURPOSE).__version__)


def _signature_names(
    interpreter: Any, given: Sequence[Mapping[str, Any]], made: Sequence[Mapping[str, Any]]
) -> tuple[dict[int, str], dict[int, str]]:
    """Tensor index → name in the first signature of the main graph, for inputs and outputs; empty without one."""
    for key in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(key)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        # A signature may be that of another graph, whose tensors have the same indices.
        if _identities(inputs.values()) == _identities(given) and _identities(outputs.values()) == _identities(made):
            return ({d["index"]: n for n, d in inputs.items()}, {d["index"]: n for n, d in outputs.items()})
    return {}, {}


def _identities(details: Any) -> set[tuple[int, str]]:
    return {(detail["index"], detail["name"]) for detail in details}


def _end(detail: Mapping[str, Any], names: Mapping[int, str]) -> End:
    shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    index = int(detail["index"])
    return End(
        names.get(index, str(detail["name"])),
        index,
        np.dtype(detail["dtype"]),
        tuple(int(n) for n in shape),
        _params(detail),
    )


def _params(detail: Mapping[str, Any]) -> QParams | None:
    """How a tensor of 8 or 16 bits is quantized; wider integers with a scale are the sums of kernels, or counts."""
    dtype, parameters = np.dtype(detail["dtype"]), detail["quantization_parameters"]
    scales = np.asarray(parameters["scales"], np.float32)
    if dtype.kind not in "iu" or dtype.itemsize > 2 or not scales.size or not (scales > 0).all():
        return None
    shape: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    if scales.size > 1:
        axis, rank = int(parameters["quantized_dimension"]), len(detail["shape"])
        if axis >= rank or int(detail["shape"][axis]) != scales.size:  # a scale for each block of a weight
            return None
        shape = tuple(scales.size if a == axis else 1 for a in range(rank))
        block = tuple(1 if a == axis else -1 for a in range(rank))
    zeros = np.broadcast_to(np.asarray(parameters["zero_points"], np.int32), scales.shape)
    # XNNPACK's kernel of QUANTIZE rounds ties to even.
    spec = QSpec(DType.parse(str(dtype)), block, symmetric=not zeros.any(), rounding="half_even")
    return QParams(spec, scales.reshape(shape), zeros.reshape(shape))


def _face(end: End) -> tuple[np.dtype[Any] | None, list[int | str | None]]:
    dtype = np.dtype(np.float32) if end.params is not None else end.dtype
    return (None if dtype.kind in "OSU" else dtype), [None if n < 0 else n for n in end.shape]


def _real(end: End, array: NDArray[Any]) -> NDArray[Any]:
    return array if end.params is None else dequantize(array, end.params)


def _stored(end: End, array: NDArray[Any]) -> NDArray[Any]:
    """An array of a feed as the file stores it."""
    if len(array.shape) != len(end.shape) or any(n not in (-1, m) for n, m in zip(end.shape, array.shape, strict=True)):
        wanted = ", ".join("?" if n < 0 else str(n) for n in end.shape)
        raise DataError(f"input {end.name!r}: the model takes shape [{wanted}], given {list(array.shape)}")
    if array.dtype == end.dtype or end.dtype.kind in "OSU":
        return np.asarray(array, order="C")
    if end.params is not None:
        if array.dtype.kind != "f":
            raise DataError(
                f"input {end.name!r} is quantized: it takes real numbers as float32, or the integers themselves as "
                f"{end.dtype}, given {array.dtype}"
            )
        if np.isnan(array).any():
            raise DataError(f"input {end.name!r} is quantized and the sample holds NaN; clean the samples first")
        return quantize(np.asarray(array, order="C"), end.params)
    if array.dtype.kind == "f" == end.dtype.kind:
        return array.astype(end.dtype, order="C")
    if array.dtype.kind in "iu" and end.dtype.kind in "iu":
        limits = np.iinfo(end.dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise DataError(
                f"input {end.name!r}: the model takes {end.dtype}, and the sample holds {array.min()} to {array.max()}"
            )
        return array.astype(end.dtype, order="C")
    raise DataError(f"input {end.name!r}: the model takes {end.dtype}, given {array.dtype}")
