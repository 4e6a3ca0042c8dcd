from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import LinearConstraint

from fewbit.search.solver import minimize


def test_a_small_program() -> None:
    # 3x + 2y at least 7 in whole numbers up to 5, at costs 2 and 1.5: x = 1, y = 2 costs 5 and gives 7.
    found = minimize(
        np.array([2.0, 1.5]),
        integers=np.ones(2),
        upper=5,
        constraints=[LinearConstraint(np.array([[3.0, 2.0]]), 7, np.inf)],
    )
    assert found == pytest.approx([1.0, 2.0])
    impossible = [LinearConstraint(np.array([[1.0, 1.0]]), 11, np.inf)]
    assert minimize(np.ones(2), integers=np.ones(2), upper=5, constraints=impossible) is None


def test_native_prints_do_not_reach_the_document() -> None:
    code = (
        "import ctypes, os\nfrom fewbit.search.solver import silent_stdout\n"
        "with silent_stdout():\n    ctypes.CDLL(None).puts(b'chatter'); os.write(1, b'more')\nprint('document')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "document\n"
