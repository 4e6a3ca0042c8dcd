from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.affine import dequantize, fake_quantize, quantize
from fewbit.core.weights.descent import coordinate_descent, output_error
from fewbit.core.weights.scales import weight_params
from fewbit.errors import InputError
from fewbit.spec import INT4, INT8, UINT4, QParams, QSpec
from tests.core.weights.layers import gram_of, heavy

SPECS = [
    QSpec(INT4, (), narrow=True),
    QSpec(INT4, (1, -1), narrow=True),
    QSpec(INT4, (1, 5)),
    QSpec(UINT4, (1, 8), symmetric=False),
]


def loss(w: np.ndarray, q: np.ndarray, params: QParams, gram: np.ndarray) -> np.ndarray:
    return output_error(dequantize(q, params) - w, gram)


def test_output_error_is_the_mean_square_of_the_outputs() -> None:
    random = np.random.default_rng(0)
    x, error = random.standard_normal((50, 6)), random.standard_normal((3, 6))
    assert np.allclose(output_error(error, x.T @ x / 50), ((x @ error.T) ** 2).mean(0))


def test_literal_integers() -> None:
    # Both inputs are always equal, so that only the sum of a row counts: 0.4 + 0.4 is nearest to one step in all.
    params = QParams(QSpec(INT8), np.float32(1.0), np.int32(0))
    w = np.array([[0.4, 0.4], [1.4, 1.4], [0.1, 0.2], [-0.4, -0.4]], np.float32)
    start = quantize(w, params)
    assert start.tolist() == [[0, 0], [1, 1], [0, 0], [0, 0]]
    found = coordinate_descent(w, start, params, np.ones((2, 2)))
    assert found.tolist() == [[1, 0], [2, 1], [0, 0], [-1, 0]]
    assert found.dtype == np.int8


def test_integers_stay_in_the_range() -> None:
    params = QParams(QSpec(INT4, narrow=True), np.float32(1.0), np.int32(0))
    w = np.array([[9.0, 0.0]], np.float32)
    # The first weight cannot go beyond 7; the second input is equal and makes up for the rest.
    assert coordinate_descent(w, quantize(w, params), params, np.ones((2, 2))).tolist() == [[7, 2]]


@given(st.integers(0, 2**32 - 1), st.sampled_from(SPECS), st.integers(1, 150))
@settings(max_examples=60, deadline=None)
def test_no_single_change_improves(seed: int, spec: QSpec, inputs: int) -> None:
    random = np.random.default_rng(seed)
    w, gram = heavy(random, (4, inputs)), gram_of(random, inputs)
    params = weight_params(w, spec)
    start = random.integers(spec.qmin, spec.qmax + 1, w.shape).astype(spec.dtype.storage)
    previous = loss(w, start, params, gram)
    for sweeps in (1, 2, 1000):
        q = coordinate_descent(w, start, params, gram, sweeps=sweeps)
        assert q.dtype == spec.dtype.storage and q.min() >= spec.qmin and q.max() <= spec.qmax
        now = loss(w, q, params, gram)
        assert (now <= previous * (1 + 1e-9)).all()
        previous = now
    slack = 1e-5 * np.trace(gram) * float(params.scale.max()) ** 2  # of weights in float32
    for i, change in itertools.product(range(inputs), (-1, 1)):
        other = q.astype(np.int64)
        other[:, i] = np.clip(other[:, i] + change, spec.qmin, spec.qmax)
        assert (loss(w, other, params, gram) >= now - slack).all()


def test_scale_of_gram_does_not_matter() -> None:
    random = np.random.default_rng(1)
    w, gram = heavy(random, (8, 70)), gram_of(random, 70)
    params = weight_params(w, SPECS[1])
    start = quantize(w, params)
    found = [coordinate_descent(w, start, params, gram * factor) for factor in (1.0, 2.0**40, 2.0**-40)]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    assert loss(w, found[0], params, gram).sum() < 0.9 * loss(w, start, params, gram).sum()


def test_independent_inputs_leave_nearest_rounding() -> None:
    w = heavy(np.random.default_rng(2), (8, 70))
    params = weight_params(w, SPECS[3])
    nearest = quantize(w, params)
    assert np.array_equal(coordinate_descent(w, nearest, params, np.diag(np.linspace(0.1, 3.0, 70))), nearest)
    away = np.clip(nearest.astype(np.int64) + 1, 0, 15)
    assert np.array_equal(coordinate_descent(w, away, params, np.eye(70)), nearest)


def test_dead_inputs_stay() -> None:
    random = np.random.default_rng(3)
    w, gram = heavy(random, (4, 20)), gram_of(random, 20)
    gram[3], gram[:, 3] = 0.0, 0.0
    params = weight_params(w, SPECS[0])
    start = np.full(w.shape, 5, np.int8)
    found = coordinate_descent(w, start, params, gram)
    assert (found[:, 3] == 5).all()
    assert (np.delete(found, 3, 1) != 5).any()


def test_the_start_is_not_written_to() -> None:
    random = np.random.default_rng(4)
    w, gram = heavy(random, (4, 20)), gram_of(random, 20)
    params = weight_params(w, SPECS[0])
    start, before = quantize(w, params), fake_quantize(w, params)
    coordinate_descent(w, start, params, gram)
    assert np.array_equal(dequantize(start, params), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": np.zeros((2, 3, 1), np.float32)}, "reshape a kernel"),
        ({"w": np.full((2, 3), np.nan, np.float32)}, "NaN or infinity"),
        ({"gram": np.eye(2)}, r"must be \(3, 3\), not \(2, 2\)"),
        ({"gram": np.full((3, 3), np.inf)}, "must be finite"),
        ({"gram": -np.eye(3)}, "not -1"),
        ({"gram": np.tri(3)}, "must be symmetric"),
        ({"integers": np.zeros((3, 2), np.int8)}, r"shape of the weight \(2, 3\)"),
        ({"integers": np.full((2, 3), 8)}, r"within -8\.\.7, not 8\.\.8"),
        ({"params": QParams(QSpec(INT4, (1, -1)), np.ones(2, np.float32), np.zeros(2, np.int32))}, r"\(2, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    given_: dict[str, object] = {
        "w": np.zeros((2, 3), np.float32),
        "integers": np.zeros((2, 3), np.int8),
        "params": QParams(QSpec(INT4), np.ones((), np.float32), np.zeros((), np.int32)),
        "gram": np.eye(3),
    }
    with pytest.raises(InputError, match=message):
        coordinate_descent(**given_ | change)  # type: ignore[arg-type]
