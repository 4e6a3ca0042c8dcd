from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.search.allocation import Layer, Pair, allocate, sweep

LAYERS = [
    Layer("a", (8.0, 4.0, 3.0), (1e-5, 1e-3, 2e-2)),
    Layer("b", (80.0, 40.0, 30.0), (1e-5, 2e-3, 3e-2)),
    Layer("c", (16.0, 8.0), (1e-6, 5e-2)),
]


def best(layers: list[Layer], most: float) -> float | None:
    costs = [
        sum(layer.cost[f] for layer, f in zip(layers, formats, strict=True))
        for formats in product(*(range(len(layer.cost)) for layer in layers))
        if sum(layer.noise[f] for layer, f in zip(layers, formats, strict=True)) <= most
    ]
    return min(costs, default=None)


def test_the_layer_that_saves_most_for_its_noise_is_narrowed_first() -> None:
    found = allocate(LAYERS, 2.5e-3)
    assert found is not None
    assert found.formats == (0, 1, 0) and found.cost == 64.0
    assert found.noise == pytest.approx(2.011e-3)
    assert found.sqnr == pytest.approx(26.97, abs=0.01)


def test_no_assignment_is_quiet_enough() -> None:
    assert allocate(LAYERS, 1e-6) is None


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 1000), min_size=2, max_size=3),
            st.lists(st.floats(1e-7, 1e-1), min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=5,
    ),
    st.floats(1e-6, 0.3),
)
@settings(max_examples=60, deadline=None)
def test_as_good_as_trying_all(given_layers: list[tuple[list[int], list[float]]], most: float) -> None:
    layers = [
        Layer(str(i), tuple(map(float, cost)), tuple(noise[: len(cost)]))
        for i, (cost, noise) in enumerate(given_layers)
    ]
    found, wanted = allocate(layers, most), best(layers, most * (1 - 1e-5))
    if found is not None:
        assert found.noise <= most * (1 + 1e-5)
    if wanted is not None:
        assert found is not None and found.cost <= wanted + 1e-6


def test_a_sweep_goes_from_the_cheapest_to_the_quietest() -> None:
    found = sweep(LAYERS, 9)
    assert found[0].formats == (2, 2, 1) and found[-1].formats == (0, 0, 0)
    assert [a.cost for a in found] == sorted({a.cost for a in found})
    assert all(np.diff([a.noise for a in found]) < 0)


@given(
    st.lists(st.lists(st.integers(1, 1000), min_size=2, max_size=3), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.floats(-1e-2, 1e-2)), max_size=6),
    st.floats(1e-3, 0.2),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_pairs_are_counted(
    costs: list[list[int]], given_pairs: list[tuple[int, int, float]], most: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    layers = [
        Layer(str(i), tuple(map(float, c)), tuple(random.uniform(0.0, 0.05, len(c)))) for i, c in enumerate(costs)
    ]
    choices = [(i, f) for i, layer in enumerate(layers) for f in range(len(layer.cost))]
    pairs = []
    for a, b, noise in given_pairs:
        first, second = choices[a % len(choices)], choices[b % len(choices)]
        if first[0] != second[0] or first == second:
            pairs.append(Pair(first, second, noise))

    def noise_of(formats: tuple[int, ...]) -> float:
        chosen = set(enumerate(formats))
        alone = sum(layer.noise[f] for layer, f in zip(layers, formats, strict=True))
        return alone + sum(p.noise for p in pairs if {p.first, p.second} <= chosen)

    def cheapest(budget: float) -> float | None:
        every = product(*(range(len(layer.cost)) for layer in layers))
        kept = [formats for formats in every if noise_of(formats) <= budget]
        return min((sum(x.cost[f] for x, f in zip(layers, fs, strict=True)) for fs in kept), default=None)

    found, wanted = allocate(layers, most, pairs), cheapest(most * (1 - 1e-5))
    if found is not None:
        assert found.noise == pytest.approx(max(noise_of(found.formats), 0.0)) and found.noise <= most * (1 + 1e-5)
    if wanted is not None:
        assert found is not None and found.cost <= wanted + 1e-6
