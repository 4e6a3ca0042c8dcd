from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fewbit.core.weights.gptq import gptq
from fewbit.core.weights.pairs import pair_bounds, pair_scale, round_pairs, saturating_pairs
from fewbit.core.weights.rows import rows_to_weight, weight_rows
from fewbit.errors import InputError
from fewbit.runtimes.cpu import cpu_features
from tests.core.weights.layers import gram_of, heavy

QMIN, QMAX = -127, 127


@pytest.mark.parametrize("inputs", [8, 9])
def test_the_order_in_memory_does_not_matter(inputs: int) -> None:
    w = np.random.default_rng(1).uniform(-1, 1, (16, inputs)).astype(np.float32)
    turned = np.asfortranarray(w)
    assert np.array_equal(pair_scale(turned, QMIN, QMAX), pair_scale(w, QMIN, QMAX))
    assert np.array_equal(round_pairs(turned * 127, QMIN, QMAX), round_pairs(w * 127, QMIN, QMAX))
    assert saturating_pairs(round_pairs(turned * 127, QMIN, QMAX)) == 0


def test_saturating_pairs_are_counted() -> None:
    rows = np.array([[64, 64, 65, 64], [-64, -64, -100, -29], [127, -127, 127, 2]], np.int8)
    assert [saturating_pairs(row[None]) for row in rows] == [1, 1, 1]
    assert saturating_pairs(rows) == 3
    assert saturating_pairs(np.array([[127, 1, 127]], np.int8)) == 0  # the last is alone
    assert saturating_pairs(np.array([[1, 127, 127, 1]], np.int8)) == 0  # neighbours, but of two pairs
    assert saturating_pairs(np.array([[5, 6]], np.int8), limit=10) == 1


@pytest.mark.parametrize(
    ("exact", "wanted"),
    [
        ([100.0, 100.0], [64, 64]),
        ([100.0, 60.0], [84, 44]),  # an excess of 32, half from each
        ([-100.0, -60.0], [-84, -44]),
        ([127.0, -127.0], [127, -127]),
        ([63.6, 64.6], [64, 64]),  # 64 + 65 by themselves
        ([127.4, 1.4], [127, 1]),
        ([300.0, 10.0, 10.0, 300.0, 300.0], [127, 1, 1, 127, 127]),  # the last is alone
    ],
)
def test_literal_pairs(exact: list[float], wanted: list[int]) -> None:
    assert round_pairs(np.array(exact), QMIN, QMAX).tolist() == wanted


def test_literal_bounds() -> None:
    low, high = pair_bounds(np.array([[60.0, 20.0, 100.0, -50.0]]), QMIN, QMAX)
    assert high.tolist() == [[84, 44, 114, 14]]  # rooms of 48 and 28
    assert low.tolist() == [[-64, -64, -39, -89]]
    assert pair_bounds(np.zeros(2), -7, 7)[1].tolist() == [7, 7]  # 4 bits stay as they are


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([1, 7, 90, 128]), st.floats(1.0, 200.0))
@settings(max_examples=100, deadline=None)
def test_whatever_is_chosen_within_the_bounds_is_safe(seed: int, inputs: int, limit: int, size: float) -> None:
    exact = size * np.random.default_rng(seed).standard_normal((20, inputs))
    low, high = pair_bounds(exact, QMIN, QMAX, limit)
    assert (low >= QMIN).all() and (low <= 0).all() and (high >= 0).all() and (high <= QMAX).all()
    assert saturating_pairs(low, limit) == saturating_pairs(high, limit) == 0
    q = round_pairs(exact, QMIN, QMAX, limit)
    assert saturating_pairs(q, limit) == 0
    assert np.array_equal(round_pairs(q, QMIN, QMAX, limit), q)
    safe = np.clip(np.rint(exact), QMIN, QMAX)
    if saturating_pairs(safe, limit) == 0:
        assert np.array_equal(q, safe)


def test_no_allowed_pair_is_nearer() -> None:
    exact = np.random.default_rng(0).uniform(-14.0, 14.0, (200, 2))
    values = np.stack(np.meshgrid(np.arange(-9, 10), np.arange(-9, 10)), -1).reshape(-1, 2)
    allowed = values[[saturating_pairs(v[None], 11) == 0 for v in values]]
    least = np.square(allowed[None] - exact[:, None]).sum(-1).min(1)
    found = np.square(round_pairs(exact, -9, 9, 11) - exact).sum(-1)
    assert np.allclose(found, least, atol=1e-4)


def test_a_scale_costs_less_than_a_bit() -> None:
    w = heavy(np.random.default_rng(1), (16, 256))
    scale = pair_scale(w, QMIN, QMAX)
    top = np.abs(w).max(1, keepdims=True)

    def error(s: np.ndarray, most: int) -> float:
        return float(np.square(np.clip(np.rint(w / s), -most, most) * s - w).sum())

    constrained = float(np.square(round_pairs(w / scale, QMIN, QMAX) * scale - w).sum())
    assert constrained < 0.45 * error(top / 63, 63)
    for other in (top / 127, top * 1.25 / 127, top / 64):
        assert constrained <= np.square(round_pairs(w / other, QMIN, QMAX) * other - w).sum()


def test_scales_of_special_channels() -> None:
    w = np.array([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0]], np.float32)
    assert pair_scale(w, QMIN, QMAX)[:2].tolist() == [[1.0], [pytest.approx(1 / 127)]]
    assert pair_scale(w, QMIN, QMAX)[2, 0] == pytest.approx(1 / 64, rel=0.01)
    assert pair_scale(w, -7, 7)[1:].tolist() == [[pytest.approx(1 / 7)], [pytest.approx(1 / 7)]]


def test_gptq_keeps_to_the_limit() -> None:
    random = np.random.default_rng(2)
    w, gram = heavy(random, (32, 101)), gram_of(random, 101)
    scale, zero = pair_scale(w, QMIN, QMAX), np.zeros((), np.int32)

    def loss(q: np.ndarray, s: np.ndarray) -> float:
        error = q * s - w
        return float(np.sum((error @ gram) * error))

    q = gptq(w, gram, scale, zero, QMIN, QMAX, pair_limit=128)
    assert saturating_pairs(q) == 0
    narrow = np.abs(w).max(1, keepdims=True) / 63
    assert loss(q, scale) < 0.5 * loss(gptq(w, gram, narrow, zero, -63, 63), narrow)
    assert loss(q, scale) < 0.9 * loss(round_pairs(w / scale, QMIN, QMAX), scale)
    tight = np.abs(w).max(1, keepdims=True) / 127
    assert saturating_pairs(gptq(w, gram, tight, zero, QMIN, QMAX)) > 0
    assert saturating_pairs(gptq(w, gram, tight, zero, QMIN, QMAX, pair_limit=128)) == 0


def test_a_limit_must_be_positive() -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        pair_bounds(np.zeros(2), QMIN, QMAX, 0)


def run(op: str, integers: np.ndarray, x: np.ndarray, **attributes: Any) -> np.ndarray:
    """The op of ONNX Runtime with scales of 1 (`step` where the output has 8 bits), outputs (..., O)."""
    outputs = integers.shape[0 if op == "QLinearConv" else 1]
    step = np.float32(step_of(op, integers))
    ones, zeros = np.ones(outputs, np.float32), np.zeros(outputs, np.int8)
    constants = {"w": integers, "one": np.float32(1.0), "ones": ones, "zero": np.uint8(0), "zeros": zeros, "step": step}
    inputs = {
        "QLinearConv": "x one zero w ones zeros step zero",
        "QLinearMatMul": "x one zero w ones zeros step zero",
        "MatMulInteger": "x w zero zeros",
        "MatMulIntegerToFloat": "x w one ones zero zeros",
        "QGemm": "x one zero w ones zeros",
    }[op]
    domain = "com.microsoft" if op in ("MatMulIntegerToFloat", "QGemm") else ""
    types = {"MatMulInteger": TensorProto.INT32, "QLinearConv": TensorProto.UINT8, "QLinearMatMul": TensorProto.UINT8}
    graph = helper.make_graph(
        [helper.make_node(op, inputs.split(), ["y"], domain=domain, **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", types.get(op, TensorProto.FLOAT), None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    (y,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    return np.moveaxis(y, 1, -1) if op == "QLinearConv" else y


def totals(op: str, integers: np.ndarray) -> np.ndarray:
    """Sums for activations of 255."""
    axes = tuple(range(1, integers.ndim)) if op == "QLinearConv" else 0
    return 255 * integers.sum(axes, dtype=np.int64)


def step_of(op: str, integers: np.ndarray) -> float:
    return 2.0 ** np.ceil(np.log2(np.abs(totals(op, integers)).max() / 255))


def exact(op: str, integers: np.ndarray) -> np.ndarray:
    """What `run` gives for activations of 255 at places without padding."""
    total = totals(op, integers)
    if op in ("QLinearConv", "QLinearMatMul"):
        return np.clip(np.rint(total / step_of(op, integers)), 0, 255)
    return total


MATRICES = ["MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm"]


@pytest.mark.parametrize("rows", [1, 5, 70])
@pytest.mark.parametrize("inputs", [3, 8, 33, 700])
@pytest.mark.parametrize("op", MATRICES)
def test_kernels_of_matrices_sum_in_pairs(op: str, inputs: int, rows: int) -> None:
    real = np.random.default_rng(3).normal(20.0, 60.0, (24, inputs))
    x = np.full((rows, inputs), 255, np.uint8)
    safe, plain = (q.astype(np.int8).T.copy() for q in (round_pairs(real, QMIN, QMAX), real.clip(QMIN, QMAX)))
    assert np.array_equal(run(op, safe, x), np.broadcast_to(exact(op, safe), (rows, 24)))
    if cpu_features().vnni is False:
        assert not np.array_equal(run(op, plain, x), np.broadcast_to(exact(op, plain), (rows, 24)))


@pytest.mark.parametrize(
    ("channels", "kernel", "groups"),
    [
        *[(8, (1, 1), 1), (7, (1, 1), 1), (3, (5,), 1), (1, (5, 5), 1), (4, (2, 2, 2), 1)],
        *[(3, (3, 3), 1), (4, (3, 3), 1), (64, (3, 3), 1)],
        *[(8, (3, 3), 2), (6, (3, 3), 2), (12, (3, 3), 4), (4, (3, 3), 4)],
    ],
    ids=str,
)
def test_kernels_of_convolutions_sum_in_pairs(channels: int, kernel: tuple[int, ...], groups: int) -> None:
    shape = (24, channels // groups, *kernel)
    real = np.random.default_rng(4).normal(20.0, 60.0, shape)
    rows = weight_rows(real, 0, 1, groups)
    safe = rows_to_weight(round_pairs(rows, QMIN, QMAX), shape, 0, 1).astype(np.int8)
    plain = real.clip(QMIN, QMAX).astype(np.int8)
    x = np.full((1, channels, *(k + 2 for k in kernel)), 255, np.uint8)
    y = run("QLinearConv", safe, x, group=groups)
    assert np.array_equal(y, np.broadcast_to(exact("QLinearConv", safe), y.shape))
    if cpu_features().vnni is False:
        y = run("QLinearConv", plain, x, group=groups)
        assert not np.array_equal(y, np.broadcast_to(exact("QLinearConv", plain), y.shape))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7,), (2, 2, 2)], ids=str)
def test_depthwise_kernels_do_not_saturate(kernel: tuple[int, ...]) -> None:
    w = np.full((24, 1, *kernel), 127, np.int8)
    w[1::2] = -127
    w[5, 0].flat[::2] = 64
    x = np.full((1, 24, *(k + 2 for k in kernel)), 255, np.uint8)
    y = run("QLinearConv", w, x, group=24)
    assert np.array_equal(y, np.broadcast_to(exact("QLinearConv", w), y.shape))
