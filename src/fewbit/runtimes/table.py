"""The runtimes, and which of them opens a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fewbit.errors import ModelError
from fewbit.runtimes import litert, litert_ops, onnxruntime, verify
from fewbit.runtimes.session import Session
from fewbit.runtimes.verify import Kernels

_START = 16  # bytes, in which a file says what it is


class Open(Protocol):
    """Loads a file; threads: of one operator, 0 lets the runtime choose."""

    def __call__(self, model: str | Path, *, threads: int = 1) -> Session: ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime.

    magic: what its files have at offset 4; None for the runtime of all other files, which says what is wrong with them.
    kernels: counts of the kernels that a file runs.
    """

    name: str
    title: str
    magic: bytes | None
    open_session: Open
    version: Callable[[], str]
    kernels: Callable[[str | Path], Kernels]


ONNX_RUNTIME = Runtime(
    onnxruntime.NAME, "ONNX Runtime", None, onnxruntime.open_session, onnxruntime.version, verify.kernels
)
LITERT = Runtime(litert.NAME, "LiteRT", litert.MAGIC, litert.open_session, litert.version, litert_ops.kernels)

RUNTIMES: tuple[Runtime, ...] = (LITERT, ONNX_RUNTIME)


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
