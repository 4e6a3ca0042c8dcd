"""How far quantization moves the mean of each channel of an activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.probe import Probe
from fewbit.graph.hub import Hub
from fewbit.runtimes.onnxruntime import SIMULATION, open_session
from fewbit.spec import QParams

Feed = Mapping[str, NDArray[Any]]


def mean_shifts(
    hub: Hub,
    sites: Mapping[str, tuple[int, QParams, NDArray[np.float32] | None]],
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
) -> dict[str, NDArray[np.float64]]:
    """E[q(x) - x] of every channel, from one float pass in which the runtime quantizes the values itself.

    Values that are clipped, and those that are rounded to zero because their channel is quiet, move the mean; the layers
    that read them can take it off their bias.

    Args:
        sites: value name → (channel axis, parameters of at most 8 bits, balance factors or None).
        feeds: a few samples.

    Returns:
        value name → shape (channels,), in the units of the undivided value.
    """
    probe = Probe(hub)
    outputs: list[ir.Value] = []
    names = []
    for name in probe.deepest_first(sites):
        axis, params, factors = sites[name]
        value = probe.values[name]
        if value.shape is None:
            continue
        rank = len(value.shape)
        if factors is not None:
            value = probe.node("Mul", [value, probe.along(1.0 / factors, axis, rank)])
        axes = [a for a in range(rank) if a != axis % rank]
        outputs += [probe.reduce("ReduceMean", v, axes) for v in (value, probe.rounded(value, params))]
        names.append(name)
    if not names:
        return {}
    session = open_session(probe.model(outputs), threads=threads, config=SIMULATION)
    totals: dict[str, NDArray[np.float64]] = {}
    samples = 0
    for feed in feeds:
        samples += 1
        means = [np.asarray(m, np.float64).reshape(-1) for m in session.run(feed)]
        for i, name in enumerate(names):
            totals[name] = totals.get(name, 0.0) + (means[2 * i + 1] - means[2 * i])
    shifts = {}
    for name, total in totals.items():
        factors = sites[name][2]
        shifts[name] = total / samples if factors is None else total / samples * factors
    return shifts
