"""Tables learned from a weight by weighted k-means in one dimension.

Minimizes Σ importance · (x - nearest level)². With the diagonal of the Fisher information as the importance this is the
sensitivity-based non-uniform quantization of Kim et al. 2024, "SqueezeLLM", equation 5.

Values are sorted once, so that a cluster is a stretch of them and its sums are differences of prefix sums: a Lloyd
iteration takes levels · log n steps. Lloyd only finds a local minimum, so it starts twice, and the better result counts:
from evenly spaced levels, and from the exact dynamic program of Wang & Song 2011, "Ckmeans.1d.dp", algorithm 1, over at
most `points` means of neighbours. Where there are no more values than that, it is exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import InputError

_Floats = NDArray[np.float64]

_POINTS_ONE = 512  # of the exact search: 2 MB of costs, 0.2 ms a level
_POINTS_BLOCK = 64  # the same for each of many blocks
_CHUNK = 1 << 20  # elements worked on at a time, so that temporaries stay small


def kmeans_1d(
    values: NDArray[np.floating],
    levels: int,
    importance: NDArray[np.floating] | None = None,
    iterations: int = 100,
    keep_zero: bool = False,
) -> NDArray[np.float32]:
    """One table for all values; the optimum if they have at most 512 distinct values and zero need not be kept.

    Args:
        values: any shape, finite, at least one.
        levels: 2 to 256.
        importance: >= 0, broadcastable to values; None, or zero everywhere, for equal weights.
        iterations: most iterations of Lloyd from each start; it ends earlier where no level moves.
        keep_zero: make zero one of the levels.

    Returns:
        float32 (levels,), ascending. Levels that no value needs are zero.

    Raises:
        InputError: values or importance is empty, not finite or of another shape, importance is negative, or levels or
            iterations is out of range.
    """
    values = np.asarray(values)
    rows, weights = _checked(values.reshape(1, -1), levels, _flat(importance, values.shape), iterations)
    distinct, where = np.unique(rows[0].astype(np.float64), return_inverse=True)
    counts = np.bincount(where, weights[0]).astype(np.float64)
    kept = counts > 0
    return _tables(distinct[None, kept], counts[None, kept], levels, iterations, keep_zero, _POINTS_ONE)[0]


def kmeans_blocks(
    rows: NDArray[np.floating],
    levels: int,
    importance: NDArray[np.floating] | None = None,
    iterations: int = 20,
    keep_zero: bool = False,
) -> NDArray[np.float32]:
    """One table a block, each the optimum if the block has at most 64 values and zero need not be kept.

    Args:
        rows: (blocks, n), finite, n >= 1.
        levels, importance, iterations, keep_zero: as in `kmeans_1d`; importance is broadcastable to rows.

    Returns:
        float32 (blocks, levels), ascending along levels.

    Raises:
        InputError: as `kmeans_1d`.
    """
    rows, weights = _checked(np.asarray(rows), levels, importance, iterations)
    n = rows.shape[1]
    step = max(1, _CHUNK // max(n, min(n, _POINTS_BLOCK) ** 2))
    tables = np.empty((len(rows), levels), np.float32)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        order = np.argsort(rows[part], 1)
        values = np.take_along_axis(rows[part], order, 1).astype(np.float64)
        counts = np.take_along_axis(weights[part], order, 1).astype(np.float64)
        tables[part] = _tables(values, counts, levels, iterations, keep_zero, _POINTS_BLOCK)
    return tables


def _tables(
    values: _Floats, weights: _Floats, levels: int, iterations: int, keep_zero: bool, points: int
) -> NDArray[np.float32]:
    """Tables of sorted rows (blocks, n) with weights."""
    blocks, n = values.shape
    if n <= levels:
        padded = np.concatenate([values, np.zeros((blocks, levels - n))], 1)
        starts = [np.sort(padded, 1)]
        if not keep_zero or n < levels:
            return starts[0].astype(np.float32)
    # Sums of squares of values far from zero would lose the differences between them.
    center = values.mean(1, keepdims=True)
    values = values - center
    sums = _prefix(weights), _prefix(weights * values)
    if n > levels:
        # An optimal table of many levels has them at even steps of the integral of density ** (1/3).
        companded = _prefix(np.cbrt(weights[:, 1:] * np.diff(values) ** 2))
        starts = [_exact(*_condensed(values, *sums, companded, points), levels)]
        if n > points or keep_zero:
            starts.append(values[:, :1] + (values[:, -1:] - values[:, :1]) * np.linspace(0.0, 1.0, levels))
    else:
        starts = [starts[0] - center]
    best, most = np.empty((blocks, levels)), np.full(blocks, -np.inf)
    for start in starts:
        table, gain = _lloyd(values, *sums, start, iterations, -center if keep_zero else None)
        best = np.where((gain > most)[:, None], table, best)
        most = np.maximum(gain, most)
    return np.sort((best + center).astype(np.float32), 1)


def _lloyd(
    values: _Floats, weight: _Floats, total: _Floats, table: _Floats, iterations: int, zero: _Floats | None
) -> tuple[_Floats, _Floats]:
    """Levels to the means of their clusters until none moves, and by how much the error is below Σ w x².

    Args:
        weight, total: prefix sums (blocks, n + 1) of w and w x.
        zero: (blocks, 1), where the level that starts nearest stays; None for no such level.
    """
    held = np.zeros(table.shape, bool)
    if zero is not None:
        np.put_along_axis(held, np.abs(table - zero).argmin(1)[:, None], True, 1)
        table = np.where(held, zero, table)
    for step in range(iterations + 1):
        inner = _rank(values, (table[:, :-1] + table[:, 1:]) / 2)
        edges = np.pad(inner, ((0, 0), (1, 0)))
        edges = np.append(edges, np.full((len(values), 1), values.shape[1]), 1)
        w, wx = (np.diff(np.take_along_axis(sums, edges, 1)) for sums in (weight, total))
        means = np.divide(wx, w, out=table.copy(), where=(w > 0) & ~held)
        if step == iterations or np.array_equal(means, table):
            break
        table = means
    return table, (table * (2 * wx - table * w)).sum(1)


def _exact(points: _Floats, weights: _Floats, levels: int) -> _Floats:
    """The best levels (blocks, levels) for sorted points (blocks, m), m > levels."""
    blocks, m = points.shape
    w, wx, wxx = (_prefix(weights * points**power) for power in range(3))
    # cost[:, j, i] of one cluster of points i to j.
    mass, moment, square = (p[:, 1:, None] - p[:, None, :-1] for p in (w, wx, wxx))
    cost = square - np.divide(moment**2, mass, out=np.zeros_like(mass), where=mass > 0)
    cost = np.where(np.tri(m, dtype=bool), np.maximum(cost, 0.0), np.inf)
    least = cost[:, :, 0]
    first = np.zeros((levels, blocks, m), np.intp)  # the first point of the last of k + 1 clusters over points 0 to j
    for k in range(1, levels):
        before = np.pad(least[:, :-1], ((0, 0), (1, 0)), constant_values=np.inf)
        ways = before[:, None, :] + cost
        first[k] = ways.argmin(2)
        least = np.take_along_axis(ways, first[k][:, :, None], 2)[:, :, 0]
    table = np.empty((blocks, levels))
    end = np.full((blocks, 1), m)
    for k in reversed(range(levels)):
        start = np.take_along_axis(first[k], end - 1, 1)
        inside, around = (np.take_along_axis(p, end, 1) - np.take_along_axis(p, start, 1) for p in (w, wx))
        mean = np.divide(around, inside, out=np.take_along_axis(points, start, 1), where=inside > 0)
        table[:, k] = mean[:, 0]
        end = start
    return table


def _condensed(
    values: _Floats, weight: _Floats, total: _Floats, companded: _Floats, points: int
) -> tuple[_Floats, _Floats]:
    """At most `points` means of neighbours, and their weights."""
    n = values.shape[1]
    if n <= points:
        return values, np.diff(weight)
    edges = _rank(companded, companded[:, -1:] * np.linspace(0.0, 1.0, points + 1))
    edges[:, 0], edges[:, -1] = 0, n
    w, wx = (np.diff(np.take_along_axis(sums, edges, 1)) for sums in (weight, total))
    return np.divide(wx, w, out=np.take_along_axis(values, np.minimum(edges[:, :-1], n - 1), 1), where=w > 0), w


def _rank(values: _Floats, keys: _Floats) -> NDArray[np.intp]:
    """For each row, how many of the sorted values (blocks, n) are at most each key (blocks, k)."""
    n = values.shape[1]
    low, high = np.zeros(keys.shape, np.intp), np.full(keys.shape, n, np.intp)
    for _ in range(n.bit_length()):
        middle = (low + high) // 2
        right = (low < high) & (np.take_along_axis(values, np.minimum(middle, n - 1), 1) <= keys)
        low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
    return low


def _prefix(x: _Floats) -> _Floats:
    return np.pad(np.cumsum(x, 1), ((0, 0), (1, 0)))


def _flat(importance: NDArray[np.floating] | None, shape: tuple[int, ...]) -> NDArray[np.floating] | None:
    if importance is None:
        return None
    try:
        return np.broadcast_to(importance, shape).reshape(1, -1)
    except ValueError:
        raise InputError(f"importance of shape {np.shape(importance)} does not broadcast to {shape}") from None


def _checked(
    rows: NDArray[np.floating], levels: int, importance: NDArray[np.floating] | None, iterations: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Rows, and a weight for each value."""
    if not 2 <= levels <= 256:
        raise InputError(f"a table has 2 to 256 levels, given {levels}")
    if iterations < 1:
        raise InputError(f"k-means takes at least one iteration, given {iterations}")
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"values must be (blocks, n) with n >= 1, given {rows.shape}; reshape the weight")
    if not np.isfinite(rows).all():
        raise InputError("a weight with NaN or infinity cannot be quantized")
    if importance is None:
        return rows, np.broadcast_to(np.float64(1.0), rows.shape)
    importance = np.asarray(importance)
    if not (np.isfinite(importance).all() and (importance >= 0).all()):
        raise InputError("importance must be finite and not negative, such as a diagonal of the Fisher information")
    try:
        weights = np.broadcast_to(importance, rows.shape)
    except ValueError:
        raise InputError(f"importance of shape {importance.shape} does not broadcast to {rows.shape}") from None
    return rows, np.where(weights.any(1, keepdims=True), weights, 1.0)
