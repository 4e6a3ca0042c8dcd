"""ExecuTorch: sessions over its runtime, with XNNPACK and the portable kernels."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError, ModelError
from fewbit.extras import load_extra
from fewbit.runtimes.executorch_file import MAGIC, FileEnd, FileMethod, read_methods
from fewbit.runtimes.quiet import quiet_native
from fewbit.runtimes.session import Ends, Feed, Outputs, one_line

__all__ = ["ENDS", "MAGIC", "NAME", "PURPOSE", "ExecuTorchSession", "open_session", "preload", "version"]

NAME = "executorch"
PURPOSE = "running or writing an ExecuTorch model"

ENDS = "fewbit_ends"
"""The method of a file that gives the names of its inputs and outputs, for which the format has no place: the JSON text
{"inputs": [...], "outputs": [...]}."""

# Not `portable_lib`, which loads the exporter with it and takes five seconds more.
_LIBRARY = "executorch.extension.pybindings._C"
_KERNELS = "executorch.kernels.quantized"

_MAIN = "forward"

_CHILD = """
import sys
from pathlib import Path
from fewbit.runtimes.executorch import ExecuTorchSession
session = ExecuTorchSession(Path(sys.argv[1]).read_bytes(), 1)
session.run(session.zeros())
"""


class ExecuTorchSession:
    """One loaded model, for one thread at a time; made by `open_session`.

    Names are those that fewbit wrote into the file, else `input_0`, `input_1` … and `output_0` … by position. The method is
    `forward`, or the first one where there is none of this name.

    The library has one pool of threads for all of the process, and what is loaded may not outlive it: where sessions with
    different numbers of threads take turns, each of them loads its model anew when its turn comes.
    """

    def __init__(self, data: bytes, threads: int) -> None:
        self._library = _library()
        self._data, self._threads = data, threads
        self._method: Any = None
        methods = read_methods(data)
        main = methods.get(_MAIN) or next(iter(methods.values()))
        self._name, self._given, self._made = main.name, main.inputs, main.outputs
        self.inputs, self.outputs = _names(methods.get(ENDS), main)
        _LIVE.add(self)
        self._loaded()

    def run(self, feed: Feed) -> Outputs:
        """The outputs for one feed.

        Raises:
            DataError: an input is missing, or of a wrong shape or dtype; or ExecuTorch refuses the feed, with its own words in
                the message.
        """
        tensors = self._tensors(feed)
        try:
            outputs = self._loaded()(tensors)
        except RuntimeError as error:
            raise DataError(f"ExecuTorch cannot run the model on this sample: {one_line(error)}") from error
        return [np.asarray(value) for value in outputs]

    def timed(self, feed: Feed) -> Callable[[], object]:
        """One run on tensors that are made before."""
        tensors = self._tensors(feed)
        return lambda: self._loaded()(tensors)

    def zeros(self) -> dict[str, NDArray[Any]]:
        """A feed that the model takes, of zeros."""
        return {
            name: np.zeros(end.shape, end.dtype or np.int64) for name, end in zip(self.inputs, self._given, strict=True)
        }

    def input_shapes(self) -> Ends:
        return {name: _face(end) for name, end in zip(self.inputs, self._given, strict=True)}

    def output_shapes(self) -> Ends:
        return {name: _face(end) for name, end in zip(self.outputs, self._made, strict=True)}

    def release(self) -> None:
        """Let go of what holds the library's threads."""
        self._method = None

    def _loaded(self) -> Any:
        _set_threads(self._library, self._threads)
        if self._method is None:
            strict = self._library.Verification.InternalConsistency
            with quiet_native():
                program = self._library._load_program_from_buffer(self._data, program_verification=strict)
                self._method = program.load_method(self._name)
        return self._method

    def _tensors(self, feed: Feed) -> list[Any]:
        torch = load_extra("torch", PURPOSE)
        missing = [name for name in self.inputs if name not in feed]
        if missing:
            raise DataError(f"input {missing[0]!r} is missing from the sample; the model wants {self.inputs}")
        arrays = [_stored(n, end, np.asarray(feed[n])) for n, end in zip(self.inputs, self._given, strict=True)]
        return [torch.from_numpy(array) for array in arrays]


_LIVE: weakref.WeakSet[ExecuTorchSession] = weakref.WeakSet()


def open_session(model: str | Path | bytes, *, threads: int = 1, probe: bool = True) -> ExecuTorchSession:
    """Load a model.

    Args:
        model: a path, or the bytes of a file.
        threads: of one operator; 0 for one a core.
        probe: whether it is first loaded and run by a process of its own, once for each content, as the library aborts on some
            damaged files. False for a file that is known to be whole.

    Raises:
        ModelError: ExecuTorch cannot load it; its own words are in the message.
        MissingExtraError: executorch is not installed.
    """
    _library()
    name = "the model" if isinstance(model, bytes) else str(model)
    read_methods(model)
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    if probe:
        _survives(data, name)
    try:
        return ExecuTorchSession(data, threads or os.cpu_count() or 1)
    except RuntimeError as error:
        raise ModelError(f"ExecuTorch {version()} cannot load {name}: {one_line(error)}") from error


def preload() -> None:
    """Import the runtime."""
    _library()


def version() -> str:
    load_extra("executorch", PURPOSE)
    return metadata.version("executorch")


def _library() -> Any:
    """The runtime's library, with the kernels of quantizers that no backend took."""
    load_extra("executorch", PURPOSE)
    with quiet_native():
        load_extra("torch", PURPOSE)  # whose libraries it is linked against
        library = load_extra(_LIBRARY, PURPOSE)
        load_extra(_KERNELS, PURPOSE)
    return library


def _survives(data: bytes, name: str) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest in _WHOLE:
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pte"
        path.write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(path)], capture_output=True, check=False, env=environment
        )
    if done.returncode not in (0, 1):  # 1: an exception, which this process gets too
        raise ModelError(
            f"{name} stops ExecuTorch {version()} (exit code {done.returncode}): the file is damaged; write or copy it again"
        )
    _WHOLE.add(digest)


_WHOLE: set[str] = set()
"""Hashes of what was loaded and run by another process."""


def _set_threads(library: Any, threads: int) -> None:
    with quiet_native():
        if library._threadpool_get_thread_count() == threads:
            return
        for session in list(_LIVE):
            session.release()
        library._unsafe_reset_threadpool(threads)


def _names(ends: FileMethod | None, main: FileMethod) -> tuple[list[str], list[str]]:
    """Names that the file has, where they fit it, else those by position."""
    found: Any = None
    with suppress(ValueError):
        found = json.loads(ends.text) if ends is not None else None
    named = found if isinstance(found, dict) else {}
    names = []
    for key, count in (("inputs", len(main.inputs)), ("outputs", len(main.outputs))):
        given = named.get(key)
        known = [str(name) for name in given] if isinstance(given, list) else []
        names.append(known if len(known) == count == len(set(known)) else [f"{key[:-1]}_{i}" for i in range(count)])
    return names[0], names[1]


def _face(end: FileEnd) -> tuple[np.dtype[Any] | None, list[int | str | None]]:
    return _dtype(end), [None if end.open else size for size in end.shape]


def _dtype(end: FileEnd) -> np.dtype[Any] | None:
    """None for what is no tensor, or none of numpy's types."""
    return None if end.dtype in ("", "bfloat16") else np.dtype(end.dtype)


def _stored(name: str, end: FileEnd, array: NDArray[Any]) -> NDArray[Any]:
    """An array of a feed as the file takes it."""
    dtype = _dtype(end)
    if dtype is None:
        raise DataError(
            f"input {name!r} is {end.dtype or 'no tensor'}, which fewbit cannot feed; export it as a tensor of float32"
        )
    if not end.open and array.shape != end.shape:
        raise DataError(f"input {name!r}: the model takes shape {list(end.shape)}, given {list(array.shape)}")
    if array.dtype != dtype:
        array = _cast(name, array, dtype)
    return np.require(array, requirements=["C", "W"]).reshape(array.shape)


def _cast(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if array.dtype.kind == dtype.kind == "f":
        return array.astype(dtype)
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not array.size or (array.min() >= limits.min and array.max() <= limits.max):
            return array.astype(dtype)
        raise DataError(f"input {name!r}: the model takes {dtype}, and the sample holds {array.min()} to {array.max()}")
    raise DataError(f"input {name!r}: the model takes {dtype}, given {array.dtype}")
