from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.weights.descent import damped
from fewbit.core.weights.gptq import gptq
from fewbit.core.weights.pairs import pair_bounds, pair_scale, saturating_pairs
from fewbit.core.weights.refine import fit_scales, refine_scales
from fewbit.core.weights.scales import weight_params
from fewbit.errors import InputError
from fewbit.spec import DType, QSpec
from tests.core.weights.layers import gram_of, heavy


def loss(w: np.ndarray, offsets: np.ndarray, scale: np.ndarray, gram: np.ndarray, group: int) -> np.ndarray:
    """Of every output channel."""
    error = offsets.astype(np.float64) * np.repeat(scale, group, -1)[..., : w.shape[-1]] - w
    return np.sum((error @ gram) * error, -1)


def test_literal_scales() -> None:
    w, q = np.array([[2.0, 5.0]]), np.array([[1.0, 2.0]])
    old = np.full((1, 1), 9.0)
    assert fit_scales(w, q, np.eye(2), old, 2).tolist() == [[pytest.approx(12 / 5)]]
    assert fit_scales(w, q, np.diag([1.0, 0.0]) + 1e-9 * np.eye(2), old, 2).tolist() == [[pytest.approx(2.0)]]
    assert fit_scales(w, q, np.ones((2, 2)) + 1e-9 * np.eye(2), old, 2).tolist() == [[pytest.approx(7 / 3)]]
    assert fit_scales(w, q, np.eye(2), np.full((1, 2), 9.0), 1).tolist() == [[2.0, 2.5]]


def test_scales_that_cannot_be_fitted_stay() -> None:
    old = np.array([[3.0, 4.0]])
    w = np.array([[2.0, 5.0]])
    assert fit_scales(w, np.array([[0.0, 2.0]]), np.eye(2), old, 1).tolist() == [[3.0, 2.5]]
    assert fit_scales(w, np.array([[-1.0, 2.0]]), np.eye(2), old, 1).tolist() == [[3.0, 4.0]]
    assert fit_scales(w, np.zeros((1, 2)), np.eye(2), old, 1).tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize("group", [50, 16, 9])
def test_no_other_scales_are_better(group: int) -> None:
    random = np.random.default_rng(0)
    w, gram = heavy(random, (6, 50)), gram_of(random, 50)
    q = np.clip(np.rint(w / 0.02), -7, 7)
    blocks = -(-50 // group)
    fitted = fit_scales(w, q, gram, np.full((6, blocks), 0.02), group)
    assert fitted.dtype == np.float32 and (fitted > 0).all() and (fitted != np.float32(0.02)).all()
    least = loss(w, q, fitted, gram, group)
    for block in range(blocks):
        for factor in (0.99, 1.01):
            other = fitted.copy()
            other[:, block] *= factor
            assert (loss(w, q, other, gram, group) > least).all()


@pytest.mark.parametrize("group", [96, 32])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("kind", ["int", "uint"])
def test_after_gptq_the_error_falls_in_every_channel(kind: str, bits: int, group: int) -> None:
    random = np.random.default_rng(1)
    w, gram = heavy(random, (24, 96)), gram_of(random, 96)
    spec = QSpec(DType(kind, bits), (1, group), symmetric=kind == "int", narrow=kind == "int")  # type: ignore[arg-type]
    params = weight_params(w, spec)
    wide = [np.repeat(a, group, -1) for a in (params.scale, params.zero_point)]
    start = gptq(w, gram, *wide, spec.qmin, spec.qmax)
    before = start.copy()
    q, scale = refine_scales(w, start, gram, params.scale, params.zero_point, spec.qmin, spec.qmax, group=group)
    assert np.array_equal(start, before)
    assert np.array_equal(q, np.rint(q)) and spec.qmin <= q.min() and q.max() <= spec.qmax
    h = damped(gram, 0.1)
    old, new = loss(w, start - wide[1], params.scale, h, group), loss(w, q - wide[1], scale, h, group)
    assert (new <= old * (1 + 1e-5)).all()
    assert new.sum() < (0.98 if bits == 2 else 0.997) * old.sum()


def test_layers_at_once_are_layers_one_by_one() -> None:
    random = np.random.default_rng(2)
    w = heavy(random, (12, 9)).reshape(4, 3, 9)
    gram = np.stack([gram_of(random, 9) for _ in range(4)])
    scale, zero = np.abs(w).max(-1, keepdims=True) / 3, np.zeros((4, 3, 1), np.int32)
    start = np.clip(np.rint(w / scale), -3, 3)
    q, refined = refine_scales(w, start, gram, scale, zero, -3, 3)
    for i in range(4):
        alone = refine_scales(w[i], start[i], gram[i], scale[i], zero[i], -3, 3)
        assert np.array_equal(q[i], alone[0]) and np.allclose(refined[i], alone[1], rtol=1e-6)


def test_bounds_of_pairs_hold() -> None:
    random = np.random.default_rng(3)
    w, gram = heavy(random, (16, 64)), gram_of(random, 64)
    scale, zero = pair_scale(w, -127, 127), np.zeros((16, 1), np.int32)
    start = gptq(w, gram, scale, zero, -127, 127, pair_limit=128)
    q, refined = refine_scales(w, start, gram, scale, zero, *pair_bounds(w / scale, -127, 127))
    assert saturating_pairs(q) == 0 and (q != start).any()
    assert loss(w, q, refined, gram, 64).sum() < loss(w, start, scale, gram, 64).sum()


def test_scales_that_do_not_fit_are_refused() -> None:
    w, zero = np.ones((2, 10), np.float32), np.zeros((2, 2), np.int32)
    with pytest.raises(InputError, match=r"10 inputs in groups of 4 take 3 scales and zero points a row, not \(2, 2\)"):
        refine_scales(w, w, np.eye(10), np.ones((2, 2), np.float32), zero, -7, 7, group=4)
