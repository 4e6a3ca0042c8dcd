from __future__ import annotations

import pytest

from fewbit.errors import RecipeError
from fewbit.search.limits import Limits, max_drop, ratio, size


@pytest.mark.parametrize(
    ("given", "share", "value", "text"),
    [
        ("0.5pt", True, 0.005, "0.5 points"),
        ("0.5 points", True, 0.005, "0.5 points"),
        ("1 point", False, 0.01, "1 point"),
        (0.5, True, 0.005, "0.5 points"),  # half a point, not half of all answers
        (0.1, True, 0.001, "0.1 points"),
        (0.005, True, 0.005, "0.5 points"),
        ("0.02", True, 0.02, "2 points"),
        (0.5, False, 0.5, "0.5"),
        ("2%", False, 0.11, "2 % of 5.5"),
        (0, True, 0.0, "0 points"),
        (None, True, 0.005, "0.5 points"),
        (None, False, 0.055, "1 % of 5.5"),
    ],
)
def test_drops(given: str | float | None, share: bool, value: float, text: str) -> None:
    found = max_drop(given, share=share, baseline=5.5)
    assert found.value == pytest.approx(value, abs=1e-12) and found.text == text


@pytest.mark.parametrize("given", ["-1", "half a point", "1.2.3", "nan", "5 dB"])
def test_no_drops(given: str) -> None:
    with pytest.raises(RecipeError, match=r"is no drop: write 0\.005, 0\.5pt"):
        max_drop(given, share=True, baseline=1.0)


@pytest.mark.parametrize(
    ("text", "count"),
    [("500kB", 500_000), ("1.5MB", 1_500_000), ("256KiB", 262_144), ("300", 300), ("2m", 2_000_000), (None, None)],
)
def test_sizes(text: str | None, count: int | None) -> None:
    assert size(text, "max-size") == count


@pytest.mark.parametrize("text", ["0", "-5kB", "5 parsecs", ""])
def test_no_sizes(text: str) -> None:
    with pytest.raises(RecipeError, match=r"max-size .* is no size above zero"):
        size(text, "max-size")


def test_ratios() -> None:
    assert ratio("0.5", "max-latency-ratio") == 0.5
    for wrong in (0, -1, "fast", float("inf"), float("nan")):
        with pytest.raises(RecipeError, match="is no ratio above zero"):
            ratio(wrong, "max-latency-ratio")


def test_limits_name_the_figure_that_breaks_them() -> None:
    limits = Limits(max_size=1000, max_latency_ratio=0.5, max_memory=2000)
    assert limits.broken(1000, 2.0, 2000) is None
    assert limits.broken(1001, 2.0, 2000) == "1001 bytes, and at most 1000 are asked for"
    assert limits.broken(1000, 1.6, 2000) == "0.62 of the float time, and at most 0.5 is asked for"
    assert limits.broken(1000, None, 2001) == "2001 bytes of memory, and at most 2000 are asked for"
    assert limits.broken(1000, None, None) is None  # what was not measured breaks nothing
