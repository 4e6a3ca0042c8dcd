from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.weights.pairs import saturating_pairs
from fewbit.runtimes.accumulators import DEPTHWISE, KERNELS, exact_bits, exact_in_pairs, in_pairs, of_width, rounding
from fewbit.runtimes.cpu import cpu_features


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_seven_bits_are_exact_everywhere_and_eight_where_the_cpu_says_so(kernel: str) -> None:
    assert KERNELS[kernel](of_width(7))
    if cpu_features().vnni or kernel == DEPTHWISE:
        assert exact_bits(kernel) == 8
    elif cpu_features().vnni is False:
        assert exact_bits(kernel) == 7


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != DEPTHWISE])
def test_eight_bits_in_pairs_of_128_are_exact_everywhere(kernel: str) -> None:
    assert exact_in_pairs(kernel, 128)
    if cpu_features().vnni is False:
        assert not exact_in_pairs(kernel, 129)  # 255 · 129 = 32895 > 32767
    elif cpu_features().vnni:
        assert exact_in_pairs(kernel, 254)


@pytest.mark.parametrize("inputs", [64, 279])
def test_weights_at_the_limit_of_their_pairs(inputs: int) -> None:
    w = in_pairs(128)(np.random.default_rng(0), (32, inputs))
    assert w.dtype == np.int8 and w.shape == (32, inputs)
    assert saturating_pairs(w, 128) == 0
    assert saturating_pairs(w, 127) > 0.8 * 32 * (inputs // 2)
    assert np.abs(w.astype(int)).max() == 127


def test_the_widest_exact_width_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def largest(weights: object) -> int:
        return int(np.abs(weights(np.random.default_rng(0), (8, 64)).astype(int)).max())  # type: ignore[operator]

    monkeypatch.setitem(KERNELS, "narrow", lambda weights: largest(weights) <= 31)
    monkeypatch.setitem(KERNELS, "never", lambda weights: False)
    assert (exact_bits("narrow"), exact_bits("never")) == (6, 0)


def test_ties_go_to_even() -> None:
    assert rounding() == "half_even"
