"""Which format each part of a network gets so that it runs fastest, borders between integers and floats included.

A mixed-integer linear program (HiGHS, by scipy): one format a unit; a value that is made as integers and read as floats, or
the other way round, is converted once for all readers that ask for it. HAWQ-V3 (Yao et al. 2021, section 3.4) allocates by
measured times without the borders; with them a layer that float serves better is worth its two conversions or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fewbit.search.solver import minimize

_TINY = 1e-12  # noise-to-signal ratio below which a layer is exact: float32 holds no less
_WHOLE = 1000.0  # of the program's unit in the time of the fastest forms: its tolerance of 1e-6 is then nothing


@dataclass(frozen=True, slots=True)
class Unit:
    """Nodes that go together, and what each format would cost and bring.

    times: (formats,) milliseconds; infinite where the target has no such form. noise: (formats,) noise-to-signal power.
    integers: (formats,) whether it then reads and writes integers. follows: whether it has no weight: such nodes are integers
    only between integers.
    """

    name: str
    times: tuple[float, ...]
    noise: tuple[float, ...]
    integers: tuple[bool, ...]
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Border:
    """A value between units. source: the index of the unit that makes it, None for an input of the model, which is float.

    readers: indices of units. quantize, dequantize: milliseconds of making integers of it, and floats. ends: whether it leaves
    the model, as floats.
    """

    source: int | None
    readers: tuple[int, ...]
    quantize: float
    dequantize: float
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Mixture:
    """One format for each unit, by its index. time: milliseconds, borders included. noise: the sum of the units'."""

    formats: tuple[int, ...]
    time: float
    noise: float


def fastest(units: Sequence[Unit], borders: Sequence[Border], most_noise: float = np.inf) -> Mixture | None:
    """The fastest mixture with at most so much noise; None where there is none."""
    from scipy.optimize import LinearConstraint

    starts = np.cumsum([0, *(len(unit.times) for unit in units)])
    chosen, count = int(starts[-1]), int(starts[-1]) + 2 * len(borders)
    times = np.concatenate([unit.times for unit in units])
    cost = np.zeros(count)
    cost[:chosen] = np.where(np.isfinite(times), times, 0.0)
    cost[chosen::2] = [border.quantize for border in borders]
    cost[chosen + 1 :: 2] = [border.dequantize for border in borders]
    upper = np.ones(count)
    upper[:chosen] = np.isfinite(times)
    rows: list[NDArray[np.float64]] = []
    low: list[float] = []

    def integer(unit: int | None) -> NDArray[np.float64]:
        """The row that is 1 where a unit is integers."""
        row = np.zeros(count)
        if unit is not None:
            row[starts[unit] : starts[unit + 1]] = units[unit].integers
        return row

    def at_least(row: NDArray[np.float64], bound: float) -> None:
        rows.append(row)
        low.append(bound)

    for index, border in enumerate(borders):
        quantized, dequantized = np.zeros((2, count))
        quantized[chosen + 2 * index] = dequantized[chosen + 2 * index + 1] = 1.0
        source = integer(border.source)
        for reader in border.readers:
            at_least(quantized + source - integer(reader), 0.0)
            at_least(dequantized - source + integer(reader), 0.0)
            if units[reader].follows:
                at_least(source - integer(reader), 0.0)
        if border.ends:
            at_least(dequantized - source, 0.0)
    for index, unit in enumerate(units):
        if unit.follows:  # not only floats read it
            after = sum((integer(r) for b in borders if b.source == index for r in b.readers), np.zeros(count))
            at_least(after - integer(index), 0.0)
    one_each = np.zeros((len(units), count))
    for index in range(len(units)):
        one_each[index, starts[index] : starts[index + 1]] = 1.0
    constraints = [LinearConstraint(one_each, 1, 1)]
    if rows:
        constraints.append(LinearConstraint(np.array(rows), np.array(low), np.inf))
    if np.isfinite(most_noise):
        scale = max(most_noise, _TINY)  # the solver's tolerances are absolute
        noise = np.zeros((1, count))
        noise[0, :chosen] = np.maximum(np.concatenate([unit.noise for unit in units]), 0.0) / scale
        constraints.append(LinearConstraint(noise, -np.inf, most_noise / scale))
    least = sum(float(np.min(unit.times)) for unit in units)
    solved = minimize(
        cost * (_WHOLE / least if 0.0 < least < np.inf else 1.0),  # the solver's tolerances are absolute
        integers=np.concatenate([np.ones(chosen), np.zeros(count - chosen)]),
        upper=upper,
        constraints=constraints,
    )
    if solved is None:
        return None
    formats = [int(np.argmax(solved[a:b])) for a, b in pairwise(starts)]
    return mixture_of(units, borders, formats)


def mixture_of(units: Sequence[Unit], borders: Sequence[Border], formats: Sequence[int]) -> Mixture:
    """A given choice, with its time and noise."""
    pairs = [*zip(units, formats, strict=True)]
    whole = [unit.integers[f] for unit, f in pairs]
    time = sum(unit.times[f] for unit, f in pairs)
    for border in borders:
        made = border.source is not None and whole[border.source]
        read = [whole[reader] for reader in border.readers]
        time += border.quantize if not made and any(read) else 0.0
        time += border.dequantize if made and (border.ends or not all(read)) else 0.0
    return Mixture(tuple(formats), float(time), float(sum(max(unit.noise[f], 0.0) for unit, f in pairs)))


def is_allowed(units: Sequence[Unit], borders: Sequence[Border], formats: Sequence[int]) -> bool:
    """Whether every unit without a weight that is to be integers lies between integers."""
    whole = [unit.integers[f] for unit, f in zip(units, formats, strict=True)]
    for index, unit in enumerate(units):
        if not unit.follows or not whole[index]:
            continue
        before = [b.source for b in borders if index in b.readers]
        after = [reader for b in borders if b.source == index for reader in b.readers]
        if any(source is None or not whole[source] for source in before) or not any(whole[reader] for reader in after):
            return False
    return True
