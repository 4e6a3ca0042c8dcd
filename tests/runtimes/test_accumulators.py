from __future__ import annotations

import pytest

from fewbit.runtimes.accumulators import KERNELS, exact_bits, rounding
from fewbit.runtimes.cpu import cpu_features


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_seven_bits_are_exact_everywhere_and_eight_where_the_cpu_says_so(kernel: str) -> None:
    assert KERNELS[kernel](63)
    if cpu_features().vnni:
        assert exact_bits(kernel) == 8
    elif cpu_features().vnni is False and "depthwise" not in kernel:
        assert exact_bits(kernel) == 7


def test_the_widest_exact_width_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "narrow", lambda top: top <= 31)
    monkeypatch.setitem(KERNELS, "never", lambda top: False)
    assert (exact_bits("narrow"), exact_bits("never")) == (6, 0)


def test_ties_go_to_even() -> None:
    assert rounding() == "half_even"
