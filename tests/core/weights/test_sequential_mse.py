from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.affine import fake_quantize, params_from_range
from fewbit.core.weights.descent import output_error
from fewbit.core.weights.scales import weight_params
from fewbit.core.weights.sequential_mse import sequential_mse_params
from fewbit.errors import InputError
from fewbit.spec import INT4, INT8, UINT4, QParams, QSpec
from tests.core.weights.layers import gram_of, heavy

ROWS = QSpec(INT4, (1, -1), narrow=True)
SPECS = [
    QSpec(INT4, ()),
    ROWS,
    QSpec(INT8, (1, -1), narrow=True),
    QSpec(INT4, (1, 16), narrow=True),
    QSpec(UINT4, (1, 24), symmetric=False),
]


def loss(w: np.ndarray, params: QParams, gram: np.ndarray) -> np.ndarray:
    return output_error(fake_quantize(w, params) - w, gram)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_never_worse_than_the_extremes(spec: QSpec, seed: int) -> None:
    random = np.random.default_rng(seed)
    w, gram = heavy(random, (12, 70)), gram_of(random, 70)
    plain = weight_params(w, spec, method="absmax")
    found = sequential_mse_params(w, spec, gram)
    assert found.scale.shape == found.zero_point.shape == plain.scale.shape
    assert found.scale.dtype == np.float32 and found.zero_point.dtype == np.int32
    before, after = loss(w, plain, gram), loss(w, found, gram)
    if spec.block_shape:
        assert (after <= before * (1 + 1e-5)).all()
    assert after.sum() < 0.95 * before.sum()


def test_rows_are_searched_exhaustively() -> None:
    random = np.random.default_rng(0)
    w, gram = heavy(random, (12, 40)), gram_of(random, 40)
    top = np.abs(w).max(1, keepdims=True)
    trials = [loss(w, params_from_range(-top * r, top * r, ROWS), gram) for r in np.linspace(1.0, 0.3, 20)]
    assert np.allclose(loss(w, sequential_mse_params(w, ROWS, gram), gram), np.min(trials, 0), rtol=1e-5)


def test_the_output_error_counts_and_not_that_of_the_weights() -> None:
    random = np.random.default_rng(1)
    w, gram = heavy(random, (12, 70)), gram_of(random, 70)
    for spec in (ROWS, SPECS[3]):
        by_weight = loss(w, weight_params(w, spec), gram).sum()
        assert loss(w, sequential_mse_params(w, spec, gram), gram).sum() < 0.9 * by_weight


def test_groups_make_up_for_each_other() -> None:
    # Without the cross terms every group would be searched alone.
    random = np.random.default_rng(2)
    w, gram = heavy(random, (12, 64)), gram_of(random, 64)
    blocks = np.kron(np.eye(4), np.ones((16, 16)))
    alone = sequential_mse_params(w, SPECS[3], gram * blocks)
    assert loss(w, sequential_mse_params(w, SPECS[3], gram), gram).sum() < 0.9 * loss(w, alone, gram).sum()


def test_the_group_searched_last_is_the_best_beside_all_others() -> None:
    random = np.random.default_rng(4)
    w, gram = heavy(random, (12, 64)), gram_of(random, 64)
    found = sequential_mse_params(w, SPECS[3], gram)
    least = loss(w, found, gram)
    top = np.abs(w[:, 48:]).max(1, keepdims=True)
    for ratio in np.linspace(1.0, 0.3, 20):
        scale = np.array(found.scale)
        scale[:, 3:] = params_from_range(-top * ratio, top * ratio, ROWS).scale
        assert (loss(w, QParams(SPECS[3], scale, found.zero_point), gram) >= least * (1 - 1e-4)).all()


def test_literal_scales() -> None:
    # One candidate: the extremes. Two: 0.3 of them, which is exact for the inputs that are on; 7 is clipped, and dead.
    w = np.array([[0.3, 0.6, -0.9, 7.0]], np.float32)
    gram = np.diag([1.0, 1.0, 1.0, 0.0])
    assert sequential_mse_params(w, ROWS, gram, candidates=1).scale.tolist() == [[1.0]]
    assert sequential_mse_params(w, ROWS, gram, candidates=2).scale[0, 0] == np.float32(0.3)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_scale_of_gram_does_not_matter(spec: QSpec) -> None:
    random = np.random.default_rng(3)
    w, gram = heavy(random, (6, 50)), gram_of(random, 50)
    first, second = (sequential_mse_params(w, spec, gram * factor) for factor in (1.0, 2.0**60))
    assert np.array_equal(first.scale, second.scale) and np.array_equal(first.zero_point, second.zero_point)


def test_what_does_not_fit_is_refused() -> None:
    w = np.ones((4, 6), np.float32)
    with pytest.raises(InputError, match=r"must be \(6, 6\)"):
        sequential_mse_params(w, ROWS, np.eye(4))
    with pytest.raises(InputError, match="spans output channels"):
        sequential_mse_params(w, QSpec(INT4, (2, -1)), np.eye(6))
    with pytest.raises(InputError, match="at least one candidate"):
        sequential_mse_params(w, ROWS, np.eye(6), candidates=0)
    with pytest.raises(InputError, match="must be finite"):
        sequential_mse_params(w, ROWS, np.full((6, 6), np.nan))
