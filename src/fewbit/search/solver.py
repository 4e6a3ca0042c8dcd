"""Mixed-integer linear programs, solved by HiGHS (in scipy)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SECONDS = 20.0  # for one program: thousands of layers take less than one
_STDOUT = 1


def minimize(
    cost: NDArray[np.float64], *, integers: NDArray[np.float64], upper: Any, constraints: Sequence[Any]
) -> NDArray[np.float64] | None:
    """The values from 0 to `upper` of least cost; None where the constraints leave none.

    Args:
        cost: (variables,). integers: (variables,), 1 for whole numbers. constraints: scipy's LinearConstraint.
    """
    from scipy.optimize import Bounds, milp

    with silent_stdout():
        solved = milp(
            cost,
            integrality=integers,
            bounds=Bounds(0, upper),
            constraints=constraints,
            options={"time_limit": _SECONDS},
        )
    found: NDArray[np.float64] | None = solved.x
    return found


@contextmanager
def silent_stdout() -> Iterator[None]:
    """Drop what native code prints on the standard output: HiGHS tells of its inner life there, whatever is asked of it, and
    would end up in a command's document."""
    with suppress(AttributeError, ValueError):  # sys.stdout is None, or closed
        sys.stdout.flush()
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # a process without a standard output
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what the C library still holds belongs to the side on which it was printed
        os.dup2(kept, _STDOUT)
        os.close(kept)
        os.close(nowhere)
