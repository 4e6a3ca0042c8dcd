from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.weights.gptq import gptq
from fewbit.core.weights.scales import weight_params
from fewbit.errors import InputError
from fewbit.spec import INT4, UINT4, QSpec
from tests.core.weights.layers import gram_of, heavy

ONE, ZERO = np.ones((), np.float32), np.zeros((), np.int32)


def loss(w: np.ndarray, q: np.ndarray, scale: np.ndarray, zero: np.ndarray, gram: np.ndarray) -> float:
    error = (q.astype(np.float64) - zero) * scale - w
    return float(np.sum((error @ gram) * error))


def nearest(w: np.ndarray, scale: np.ndarray, zero: np.ndarray, qmin: int, qmax: int) -> np.ndarray:
    return np.clip(np.rint(w / scale) + zero, qmin, qmax)


def test_literal_integers() -> None:
    # The second input is the first one halved: rounding 2.4 down leaves 0.4, which 0.4 · 2 = 0.8 of the second makes
    # good. With damping of 1 % it takes a little less: 0.3 + 0.77 rounds to 1.
    w = np.array([[2.4, 0.3]], np.float32)
    gram = np.array([[4.0, 2.0], [2.0, 1.0]])
    assert gptq(w, gram, ONE, ZERO, -8, 7, damping=0.01, sweeps=0).tolist() == [[2.0, 1.0]]
    assert gptq(w, np.diag([4.0, 1.0]), ONE, ZERO, -8, 7).tolist() == [[2.0, 0.0]]


def test_the_column_of_the_largest_mean_square_is_first() -> None:
    # Both of 0.4 are rounded down if they are first, and the other is then raised to 0.8: up.
    w = np.array([[0.4, 0.4]], np.float32)
    for gram, wanted in (([[1.1, 1.0], [1.0, 1.0]], [0.0, 1.0]), ([[1.0, 1.0], [1.0, 1.1]], [1.0, 0.0])):
        assert gptq(w, np.array(gram), ONE, ZERO, -8, 7, damping=0.01, sweeps=0).tolist() == [wanted]


def by_the_book(w: np.ndarray, gram: np.ndarray, scale: np.ndarray, damping: float) -> np.ndarray:
    """Optimal brain quantization in the order of the diagonal, with the inverse recomputed for what is left."""
    h = gram + damping * np.trace(gram) / len(gram) * np.eye(len(gram))
    w, q, left = w.astype(np.float64).copy(), np.zeros_like(w), list(np.argsort(-np.diag(h), kind="stable"))
    while left:
        inverse = np.linalg.inv(h[np.ix_(left, left)])
        i, *left = left
        q[:, i] = np.clip(np.rint(w[:, i] / scale[:, 0]), -7, 7)
        error = (w[:, i] - q[:, i] * scale[:, 0]) / inverse[0, 0]
        w[:, left] -= error[:, None] * inverse[0, 1:]
    return q


@pytest.mark.parametrize("inputs", [1, 9, 64, 65, 150])
def test_blocks_and_one_factor_are_the_textbook_recursion(inputs: int) -> None:
    random = np.random.default_rng(inputs)
    w, gram = heavy(random, (8, inputs)), gram_of(random, inputs)
    scale = np.abs(w).max(1, keepdims=True) / 7
    found = gptq(w, gram, scale, ZERO, -7, 7, damping=0.05, sweeps=0)
    wanted = by_the_book(w, gram, scale, 0.05)
    # float32 may round a tie the other way, and what follows then differs too
    assert (found != wanted).any(1).sum() <= 1


@pytest.mark.parametrize(
    "spec",
    [QSpec(INT4, (), narrow=True), QSpec(INT4, (1, -1), narrow=True), QSpec(UINT4, (1, 16), symmetric=False)],
    ids=str,
)
def test_much_better_than_nearest_rounding_for_inputs_that_are_not_independent(spec: QSpec) -> None:
    random = np.random.default_rng(0)
    gains = []
    for _ in range(10):
        w, gram = heavy(random, (16, 96)), gram_of(random, 96)
        params = weight_params(w, spec)
        repeat = 16 if spec.block_shape == (1, 16) else 1
        scale, zero = (np.repeat(a, repeat, -1) if a.ndim else a for a in (params.scale, params.zero_point))
        q = gptq(w, gram, scale, zero, spec.qmin, spec.qmax)
        assert q.dtype == np.float32 and np.array_equal(q, np.rint(q)) and spec.qmin <= q.min() <= q.max() <= spec.qmax
        plain = gptq(w, gram, scale, zero, spec.qmin, spec.qmax, sweeps=0)
        errors = [loss(w, x, scale, zero, gram) for x in (q, plain, nearest(w, scale, zero, spec.qmin, spec.qmax))]
        assert errors[0] < errors[2]
        gains.append([errors[0] / errors[1], errors[1] / errors[2]])
    assert np.mean(gains, 0)[0] < 0.99  # by coordinate descent
    assert np.mean(gains, 0)[1] < 0.8


def test_independent_inputs_leave_nearest_rounding() -> None:
    random = np.random.default_rng(1)
    w = heavy(random, (8, 70))
    scale = np.abs(w).max(1, keepdims=True) / 7
    gram = np.diag(random.uniform(0.1, 3.0, 70))
    assert np.array_equal(gptq(w, gram, scale, ZERO, -7, 7), nearest(w, scale, ZERO, -7, 7))
    assert np.array_equal(gptq(w, 0 * gram, scale, ZERO, -7, 7), nearest(w, scale, ZERO, -7, 7))


def test_layers_at_once_are_layers_one_by_one() -> None:
    random = np.random.default_rng(2)
    w = heavy(random, (30, 9)).reshape(5, 2, 3, 9)
    gram = np.stack([gram_of(random, 9) for _ in range(10)]).reshape(5, 2, 9, 9)
    gram[3, 1, 4], gram[3, 1, :, 4] = 0.0, 0.0  # a tap that only sees padding
    scale = np.abs(w).max(-1, keepdims=True) / 7
    together = gptq(w, gram, scale, ZERO, -7, 7)
    for i in np.ndindex(5, 2):
        assert np.array_equal(together[i], gptq(w[i], gram[i], scale[i], ZERO, -7, 7))


def test_scale_of_gram_does_not_matter_and_nothing_is_written_to() -> None:
    random = np.random.default_rng(3)
    w, gram = heavy(random, (8, 70)), gram_of(random, 70)
    scale = np.abs(w).max(1, keepdims=True) / 7
    before = w.copy(), gram.copy()
    first = gptq(w, gram, scale, ZERO, -7, 7)
    assert np.array_equal(w, before[0]) and np.array_equal(gram, before[1])
    assert np.array_equal(gptq(w, gram * 2.0**30, scale, ZERO, -7, 7), first)


def test_fewer_samples_than_inputs() -> None:
    random = np.random.default_rng(4)
    w, x = heavy(random, (8, 70)), random.standard_normal((20, 70))
    scale = np.abs(w).max(1, keepdims=True) / 7
    gram = x.T @ x / 20
    q = gptq(w, gram, scale, ZERO, -7, 7)
    assert loss(w, q, scale, ZERO, gram) < 0.5 * loss(w, nearest(w, scale, ZERO, -7, 7), scale, ZERO, gram)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gram": np.eye(2)}, r"shape \(2, 3\) takes a Gram matrix of \(3, 3\), not \(2, 2\)"),
        ({"w": np.full((2, 3), np.nan, np.float32)}, "finite weights"),
        ({"gram": np.full((3, 3), np.inf)}, "finite Gram matrix"),
        ({"gram": np.array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]])}, "positive semidefinite"),
        ({"scale": np.zeros((2, 1), np.float32)}, "above 0, not 0.0"),
        ({"damping": 0.0}, "above 0, not 1.0 and 0.0"),
        ({"pair_limit": 128, "zero_point": np.ones((2, 1), np.int32)}, "zero point is 0"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    given = {"w": np.zeros((2, 3), np.float32), "gram": np.eye(3), "scale": ONE, "zero_point": ZERO}
    with pytest.raises(InputError, match=message):
        gptq(**given | change, qmin=-8, qmax=7)  # type: ignore[arg-type]
