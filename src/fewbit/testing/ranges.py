"""What every range estimator must do."""

from __future__ import annotations

import numpy as np

from fewbit.core.ranges import RangeEstimator
from fewbit.core.stats import TensorStats
from fewbit.spec import UINT8, QSpec


class RangeContract:
    """Inherit and give `estimator`."""

    estimator: RangeEstimator
    spec = QSpec(UINT8, symmetric=False)

    def _range(self, *samples: np.ndarray) -> tuple[float, float]:
        stats = TensorStats(None)
        for sample in samples:
            stats.update(sample.astype(np.float32), 1 << 30)
        return type(self).estimator(stats, self.spec)

    def test_stays_within_what_was_seen(self) -> None:
        x = np.random.default_rng(0).standard_normal(5000)
        low, high = self._range(x)
        assert x.min() - 1e-6 <= low < 0 < high <= x.max() + 1e-6

    def test_scales_with_the_data(self) -> None:
        x = np.random.default_rng(1).standard_normal(5000)
        low, high = self._range(x)
        assert np.allclose(self._range(x * 4), (low * 4, high * 4), rtol=1e-3)

    def test_positive_data_needs_no_negative_range(self) -> None:
        low, high = self._range(np.random.default_rng(2).uniform(0, 3, 5000))
        assert low >= 0.0 and high > 1.5

    def test_zeros_and_one_value_are_ranges_too(self) -> None:
        assert self._range(np.zeros(10)) == (0.0, 0.0)
        low, high = self._range(np.full(10, 2.0))
        assert low <= high and 1.9 <= high <= 2.0 + 1e-6
