from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.weights.moments import Moments

RANDOM = np.random.default_rng(0)
REAL = RANDOM.standard_normal((3, 40, 5)).astype(np.float32) + 1.0
QUANTIZED = (np.rint(REAL * 4) / 4).astype(np.float32)


def gathered(real: np.ndarray, quantized: np.ndarray, cuts: list[int]) -> Moments:
    moments = Moments(3, 5)
    for start, stop in zip([0, *cuts], [*cuts, real.shape[1]], strict=True):
        part = real[:, start:stop]
        moments.add(part, part if quantized is real else quantized[:, start:stop])
    return moments


def check(moments: Moments, real: np.ndarray, quantized: np.ndarray) -> None:
    assert moments.count == real.shape[1]
    assert np.allclose(moments.mean_float, real.mean(1), atol=1e-6)
    assert np.allclose(moments.mean, quantized.mean(1), atol=1e-6)
    for centred in (False, True):
        x, y = (v - v.mean(1, keepdims=True) if centred else v for v in (quantized, real))
        gram, cross = moments.second(centred=centred)
        assert np.allclose(gram, np.einsum("gnk,gnl->gkl", x, x) / 40, atol=1e-5)
        assert np.allclose(cross, np.einsum("gnk,gnl->gkl", y, x) / 40, atol=1e-5)


def test_literal_moments() -> None:
    moments = Moments(1, 2)
    moments.add(np.array([[[1.0, 2.0], [3.0, 0.0]]], np.float32), np.array([[[1.0, 2.0], [2.0, 0.0]]], np.float32))
    assert moments.mean_float.tolist() == [[2.0, 1.0]] and moments.mean.tolist() == [[1.5, 1.0]]
    gram, cross = moments.second(centred=False)
    assert gram.tolist() == [[[2.5, 1.0], [1.0, 2.0]]]
    assert cross.tolist() == [[[3.5, 1.0], [1.0, 2.0]]]  # rows are the float inputs
    gram, cross = moments.second(centred=True)
    assert gram.tolist() == [[[0.25, -0.5], [-0.5, 1.0]]]
    assert cross.tolist() == [[[0.5, -1.0], [-0.5, 1.0]]]


@pytest.mark.parametrize("cuts", [[], [7], [1, 2, 30]])
def test_batches_do_not_matter(cuts: list[int]) -> None:
    check(gathered(REAL, QUANTIZED, cuts), REAL, QUANTIZED)
    check(gathered(REAL, REAL, cuts), REAL, REAL)


def test_inputs_that_are_not_quantized_have_one_matrix() -> None:
    gram, cross = gathered(REAL, REAL, [7]).second(centred=True)
    assert gram is cross


@pytest.mark.parametrize("first", [True, False])
def test_quantized_inputs_may_join_others(first: bool) -> None:
    mixed = np.concatenate([REAL[:, :20], QUANTIZED[:, 20:]] if first else [QUANTIZED[:, :20], REAL[:, 20:]], 1)
    one, halves = Moments(3, 5), (Moments(3, 5), Moments(3, 5))
    for i, (part, half) in enumerate(zip((slice(0, 20), slice(20, 40)), halves, strict=True)):
        x = REAL[:, part]
        for moments in (one, half):
            moments.add(x, x if (i == 0) == first else QUANTIZED[:, part])
    check(one, REAL, mixed)
    check(halves[0] + halves[1], REAL, mixed)
    assert halves[0].count == 20  # the sum is a third


def test_reading_does_not_change_what_was_gathered() -> None:
    moments = gathered(REAL, REAL, [])
    moments.second(centred=True)
    check(moments, REAL, REAL)
    assert not Moments(1, 2).second(centred=True)[0].any()


def test_a_constant_input_has_no_negative_variance() -> None:
    moments = Moments(1, 3)
    rows = np.full((1, 4096, 3), 0.1, np.float32) * np.float32([1.0, 3.3, 1e4])
    moments.add(rows, rows)
    gram, _ = moments.second(centred=True)
    assert (np.einsum("gii->gi", gram) >= 0.0).all()
