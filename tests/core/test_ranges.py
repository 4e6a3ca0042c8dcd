from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.affine import fake_quantize, params_from_range
from fewbit.core.ranges import RANGES, mse
from fewbit.core.ranges.through import FUNCTIONS
from fewbit.core.stats import TensorStats
from fewbit.spec import DType, QSpec

RANDOM = np.random.default_rng(0)
DATA = {
    "normal": RANDOM.standard_normal(20_000),
    "relu": np.maximum(RANDOM.standard_normal(20_000), 0),
    "heavy": RANDOM.standard_t(3, 20_000),
    "shifted": RANDOM.standard_normal(20_000) + 2,
}


def seen(x: np.ndarray) -> TensorStats:
    stats = TensorStats(None)
    stats.update(x.astype(np.float32), 1 << 30)
    return stats


def error(x: np.ndarray, low: float, high: float, spec: QSpec) -> float:
    x = x.astype(np.float32)
    return float(((fake_quantize(x, params_from_range(low, high, spec)) - x) ** 2).mean())


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("name", DATA)
def test_mse_is_near_the_best_of_all_ranges(name: str, bits: int) -> None:
    x, spec = DATA[name], QSpec(DType("uint", bits), symmetric=False)
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    best = min(error(x, low * a, high * b, spec) for a in np.linspace(0.1, 1, 40) for b in np.linspace(0.1, 1, 40))
    assert error(x, *mse.range_(seen(x), spec), spec) <= 1.05 * best


def test_minmax_and_moving_average() -> None:
    stats = TensorStats(None)
    for peak in (1.0, 3.0):
        stats.update(np.array([-1.0, peak], np.float32))
    spec = QSpec(DType("uint", 8), symmetric=False)
    assert RANGES["minmax"](stats, spec) == (-1.0, 3.0)
    assert RANGES["moving_average"](stats, spec) == (-1.0, pytest.approx(1.2))


def test_percentile_leaves_out_an_outlier() -> None:
    x = np.concatenate([np.linspace(-1, 1, 300_000), [1000.0]])
    low, high = RANGES["percentile"](seen(x), QSpec(DType("uint", 8), symmetric=False))
    assert -1.0 <= low <= -0.99 and 0.99 <= high <= 1.02


def test_entropy_cuts_a_heavy_tail_and_keeps_a_uniform_range() -> None:
    spec = QSpec(DType("int", 8))
    tail = RANDOM.laplace(size=200_000)
    _, high = RANGES["entropy"](seen(tail), spec)
    assert high < 0.95 * np.abs(tail).max()
    flat = RANDOM.uniform(-1, 1, 100_000)
    assert RANGES["entropy"](seen(flat), spec)[1] > 0.95


def test_what_a_function_flattens_may_be_clipped() -> None:
    x = np.concatenate([RANDOM.uniform(-100, 0, 20_000), RANDOM.uniform(0, 5, 20_000)])
    spec = QSpec(DType("uint", 8), symmetric=False)
    plain, through = mse.range_(seen(x), spec), mse.range_(seen(x), spec, through="silu")
    assert plain[0] < -80
    assert -15 < through[0] < -3
    silu = FUNCTIONS["silu"]

    def after(bounds: tuple[float, float]) -> float:
        q = fake_quantize(x.astype(np.float32), params_from_range(*bounds, spec))
        return float(((silu(q.astype(np.float64)) - silu(x)) ** 2).mean())

    assert after(through) < after(plain) / 20


def test_a_constant_tensor_has_a_range() -> None:
    for name, estimator in RANGES.items():
        low, high = estimator(seen(np.zeros(100)), QSpec(DType("uint", 8), symmetric=False))
        assert (low, high) == (0.0, 0.0), name
