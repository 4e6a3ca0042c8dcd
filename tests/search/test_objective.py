"""What a search makes small."""

from __future__ import annotations

import pytest

from fewbit.errors import RecipeError
from fewbit.search.objective import parse_objective


def test_weights_add_up_to_one_the_heaviest_first() -> None:
    assert parse_objective("size").weights == (("size", 1.0),)
    assert parse_objective("size").only == "size" and str(parse_objective("size")) == "size"
    found = parse_objective("size=1, latency=3")
    assert found.weights == (("latency", 0.75), ("size", 0.25)) and found.only is None
    assert str(found) == "latency=0.75,size=0.25" and parse_objective(str(found)) == found
    assert parse_objective("latency,size").weights == (("latency", 0.5), ("size", 0.5))


def test_the_gain_is_one_over_the_weighted_sum_of_costs() -> None:
    """Half the time and a quarter of the bytes: 0.75 / 2 + 0.25 / 4 of the float model's cost."""
    found = parse_objective("latency=3,size=1").gain(lambda axis: {"latency": 2.0, "size": 4.0}.get(axis, 0.0))
    assert found == pytest.approx(1 / (0.75 * 0.5 + 0.25 * 0.25))
    assert parse_objective("size").gain(lambda axis: 4.0) == 4.0


@pytest.mark.parametrize("text", ["", "speed", "latency=2,speed=1"])
def test_what_does_not_exist(text: str) -> None:
    with pytest.raises(
        RecipeError, match="does not exist; use latency, size, energy, or weights such as latency=2,size=1"
    ):
        parse_objective(text)


@pytest.mark.parametrize(
    "text", ["latency=0", "latency=-1,size=1", "latency=a", "size=1,size=2", "size=inf", "size=nan"]
)
def test_weights_that_are_none(text: str) -> None:
    with pytest.raises(RecipeError, match="give each axis once, with a weight above 0"):
        parse_objective(text)
