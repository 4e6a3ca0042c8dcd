from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.search.latency_allocation import Border, Mixture, Unit, fastest, is_allowed, mixture_of

INF = float("inf")
FLOAT_INT8 = (False, True)


def unit(name: str, float_time: float, int8_time: float, noise: float = 0.0, *, follows: bool = False) -> Unit:
    return Unit(name, (float_time, int8_time), (0.0, noise), FLOAT_INT8, follows)


def chain(*units: Unit, cost: float) -> tuple[list[Unit], list[Border]]:
    """Units one after another, with borders of one price between them and at both ends."""
    borders = [Border(None, (0,), cost, cost)]
    borders += [Border(i, (i + 1,), cost, cost) for i in range(len(units) - 1)]
    return [*units], [*borders, Border(len(units) - 1, (), cost, cost, ends=True)]


def brute(units: list[Unit], borders: list[Border], most: float) -> float | None:
    """The least time of all choices, one after another."""
    times = [
        found.time
        for formats in product(*(range(len(u.times)) for u in units))
        if is_allowed(units, borders, formats)
        and (found := mixture_of(units, borders, formats)).noise <= most
        and np.isfinite(found.time)
    ]
    return min(times, default=None)


def test_a_layer_stays_in_float_where_it_loses_more_than_two_conversions_cost() -> None:
    layers = (unit("a", 5.0, 2.0), unit("b", 1.0, 4.0), unit("c", 5.0, 2.0))
    assert fastest(*chain(*layers, cost=1.0)) == Mixture((1, 0, 1), 2 + 1 + 2 + 4 * 1.0, 0.0)
    # At 2 a conversion the detour is not worth it.
    assert fastest(*chain(*layers, cost=2.0)) == Mixture((0, 0, 0), 11.0, 0.0)
    assert fastest(*chain(*layers, cost=1.6)) == Mixture((0, 0, 0), 11.0, 0.0)
    assert fastest(*chain(*layers, cost=0.0)) == Mixture((1, 0, 1), 5.0, 0.0)


def test_a_value_is_converted_once_for_all_its_readers() -> None:
    units = [unit("a", 1.0, 9.0), unit("b", 5.0, 1.0), unit("c", 5.0, 1.0)]
    borders = [Border(0, (1, 2), 6.0, 0.0), Border(1, (), 0.0, 0.5, ends=True), Border(2, (), 0.0, 0.5, ends=True)]
    assert fastest(units, borders) == Mixture((0, 1, 1), 1 + 1 + 1 + 6.0 + 2 * 0.5, 0.0)


def test_what_has_no_weight_is_integers_only_between_integers() -> None:
    layers = (unit("a", 1.0, INF), unit("add", 9.0, 1.0, follows=True), unit("c", 3.0, 1.0))
    assert fastest(*chain(*layers, cost=0.1)) == Mixture((0, 0, 1), 1 + 9 + 1 + 0.2, 0.0)
    ending = (unit("a", 3.0, 1.0), unit("add", 9.0, 1.0, follows=True))
    assert fastest(*chain(*ending, cost=0.1)) == Mixture((1, 0), 1 + 9 + 0.2, 0.0)  # nothing that is integers reads it


def test_noise_is_kept_within_the_budget() -> None:
    layers = (unit("a", 5.0, 1.0, 0.01), unit("b", 5.0, 2.0, 0.001), unit("c", 5.0, 3.0, 0.0001))
    assert fastest(*chain(*layers, cost=0.0), most_noise=0.002) == Mixture((0, 1, 1), 10.0, 0.0011)
    exact = fastest(*chain(*layers, cost=0.0), most_noise=0.0)
    assert exact is not None and exact.formats == (0, 0, 0)


def test_a_budget_below_the_least_noise_has_no_mixture() -> None:
    only = Unit("a", (INF, 1.0), (0.0, 0.5), FLOAT_INT8)
    assert fastest([only], [], most_noise=0.1) is None


@settings(max_examples=60, deadline=None)  # the first program loads scipy
@given(st.data())
def test_it_is_the_best_of_all_choices(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    number = st.integers(0, 40).map(lambda n: n / 8)
    units = [
        Unit(
            f"u{i}",
            (data.draw(number), data.draw(number), data.draw(st.one_of(number, st.just(INF)))),
            (0.0, data.draw(number) / 16, data.draw(number) / 16),
            (False, True, False),
            follows=i > 0 and data.draw(st.booleans()),
        )
        for i in range(count)
    ]
    borders = [Border(None, (0,), data.draw(number), data.draw(number))]
    for source in range(count):
        after = [*range(source + 1, count)]
        readers = data.draw(st.lists(st.sampled_from(after), unique=True, max_size=3)) if after else []
        borders.append(Border(source, tuple(readers), data.draw(number), data.draw(number), ends=not readers))
    most = data.draw(st.sampled_from([INF, 0.0, 0.1, 0.3]))
    found = fastest(units, borders, most)
    expected = brute(units, borders, most + 1e-9)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.time == pytest.approx(expected, abs=1e-6)
        assert found.noise <= most + 1e-9
        assert is_allowed(units, borders, found.formats)
