"""The runtimes, and which of them opens a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from fewbit.errors import ModelError
from fewbit.runtimes import executorch, executorch_ops, litert, litert_ops, onnxruntime, verify
from fewbit.runtimes.execution import Execution, Kernels
from fewbit.runtimes.session import Session

_START = 16  # bytes, in which a file says what it is


class Open(Protocol):
    """Loads a file; threads: of one operator, 0 lets the runtime choose."""

    def __call__(self, model: str | Path, *, threads: int = 1) -> Session: ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime.

    magic: what its files have at offset 4; None for the runtime of all other files, which says what is wrong with them.
    preload: imports what opening a session imports. execution: what runs of a file.
    timed: whether its times say something of the device that it stands for. simulated: whether its kernels are those that
        simulations give the integers of.
    """

    name: str
    title: str
    magic: bytes | None
    open_session: Open
    version: Callable[[], str]
    preload: Callable[[], None]
    execution: Callable[[str | Path], Execution]
    timed: bool = True
    simulated: bool = True

    def kernels(self, path: str | Path) -> Kernels:
        """Counts of the kernels that execute for a file."""
        return self.execution(path).kernels


ONNX_RUNTIME = Runtime(
    onnxruntime.NAME,
    "ONNX Runtime",
    None,
    onnxruntime.open_session,
    onnxruntime.version,
    onnxruntime.preload,
    verify.execution,
)
LITERT = Runtime(
    litert.NAME, "LiteRT", litert.MAGIC, litert.open_session, litert.version, litert.preload, litert_ops.executed_ops
)
_LITERT_MICRO = Runtime(
    "litert-micro",
    "LiteRT with reference kernels",
    litert.MAGIC,
    partial(litert.open_session, kernels="reference"),
    litert.version,
    litert.preload,
    partial(litert_ops.executed_ops, kernels="reference"),
    timed=False,
    simulated=False,  # they round sums and ties otherwise than XNNPACK's
)  # stands for TFLite Micro, whose kernels these are

EXECUTORCH = Runtime(
    executorch.NAME,
    "ExecuTorch",
    executorch.MAGIC,
    executorch.open_session,
    executorch.version,
    executorch.preload,
    executorch_ops.executed_ops,
)

RUNTIMES: tuple[Runtime, ...] = (LITERT, EXECUTORCH, ONNX_RUNTIME)


def runtime_named(name: str) -> Runtime | None:
    """The runtime of a target, by the name that the target has for it."""
    return next((runtime for runtime in (*RUNTIMES, _LITERT_MICRO) if runtime.name == name), None)


def runtime_of(path: str | Path) -> Runtime:
    """The runtime that opens a file, by its content.

    Raises:
        ModelError: the file does not exist or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_START)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return next(r for r in RUNTIMES if r.magic is None or start[4 : 4 + len(r.magic)] == r.magic)


def open_model(path: str | Path, *, threads: int = 1) -> Session:
    """A session of a file in the runtime that opens it.

    Raises:
        ModelError: it does not load; the runtime's own words are in the message.
        MissingExtraError: the runtime is not installed.
    """
    return runtime_of(path).open_session(path, threads=threads)
