"""Inputs made from what a network remembers of its data, for those who have none.

ZeroQ (Cai et al. 2020, "ZeroQ: A Novel Zero Shot Quantization Framework", equation 2): inputs are optimized until means and
standard deviations of activations are those that batch normalizations remember. Two things differ from it.

Inputs are not optimized number by number but in their spectrum, scaled by 1/f, where they begin as random numbers (Olah et al.
2017, "Feature Visualization", on preconditioning; natural images have spectra of that kind: Field 1987). White noise meets the
statistics of the first layers, which look at differences of neighbours, at a fraction of the amplitude of real inputs.

The distance of a layer is relative to its variance, so that none outweighs the others by its unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fft

from fewbit.core.normal import Normal
from fewbit.data.check import Feed, InputInfo
from fewbit.data.images import channels_last
from fewbit.errors import ModelError
from fewbit.torchgraph.dtypes import to_tensor
from fewbit.torchgraph.module import GraphModule

_SCALES = tuple(2.0**exponent for exponent in range(-8, 10))
"""Standard deviations to begin with: normalized inputs have 1, bytes 128, and the first layer tells which."""

_OFFSETS = (0.0, 1.0, -1.0, 2.0, -2.0)
"""Means to begin with, in standard deviations; bytes that are not centred have 2."""

_LOOKED_AT = 8  # samples that the beginning is chosen by
_TINY = 1e-12  # keeps the gradient of a square root finite


@dataclass(frozen=True, slots=True)
class Pace:
    """How inputs are optimized: updates of Adam, and its rate at the start, in standard deviations of the spectrum; a cosine
    takes it to zero. Mean and scale of a channel learn at `slow` of that."""

    steps: int = 100
    rate: float = 0.3
    slow: float = 0.03


@dataclass
class _Input:
    """One input while it is made: x = (spectrum → numbers + offset) · exp(scale)."""

    info: InputInfo
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    spectrum: Tensor
    amplitude: Tensor
    offset: Tensor
    scale: Tensor

    def numbers(self) -> Tensor:
        made = self.spectrum
        if self.axes:
            sizes = [self.shape[axis] for axis in self.axes]
            made = fft.irfftn(torch.view_as_complex(made) * self.amplitude, s=sizes, dim=self.axes, norm="ortho")
        return (made + self.offset) * self.scale.exp()


def synthesize(
    module: GraphModule,
    inputs: Sequence[InputInfo],
    normals: Mapping[str, Normal],
    count: int,
    *,
    seed: int,
    pace: Pace,
    stacked: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[Feed]:
    """Feeds for which activations have the means and deviations of `normals`.

    Args:
        module: the float network.
        inputs: of floating point; the first size may be free, all others are numbers.
        normals: value name → what its channels (axis 1) are to have, over all samples and positions. At least one.
        count: feeds made together; the statistics are those of all of them.
        stacked: whether samples can be joined along the first axis; otherwise they run one by one.
        advance: told of every update.

    Raises:
        ModelError: the network gives no finite numbers, or the torch executor cannot run it.
    """
    generator = torch.Generator().manual_seed(seed)
    made = [_begin(info, count, generator) for info in inputs]
    wanted = {name: (to_tensor(n.mean).float(), to_tensor(n.std).float()) for name, n in normals.items()}
    rows = {i.info.name: i.shape[0] if stacked else i.shape[0] // count for i in made}
    _choose_beginning(module, made, wanted, rows)
    free = [i.spectrum for i in made], [t for i in made for t in (i.offset, i.scale)]
    for tensor in (*free[0], *free[1]):
        tensor.requires_grad_()
    rates = (pace.rate, pace.rate * pace.slow)
    optimizer = torch.optim.Adam([{"params": p, "lr": r} for p, r in zip(free, rates, strict=True)])
    for step in range(pace.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = 0.5 * rate * (1.0 + math.cos(math.pi * step / pace.steps))
        optimizer.zero_grad(set_to_none=True)
        loss = _distance(module, {i.info.name: i.numbers() for i in made}, wanted, rows)
        if not math.isfinite(float(loss.detach())):
            raise ModelError(
                f"synthesizing samples: the network gives no finite numbers after {step} updates; give --data"
            )
        loss.backward()
        optimizer.step()
        advance(1)
    with torch.no_grad():
        arrays = {i.info.name: i.numbers().numpy().astype(i.info.dtype or np.float32) for i in made}
    for index in range(count):
        yield {n: a[index * len(a) // count : (index + 1) * len(a) // count] for n, a in arrays.items()}


def _begin(info: InputInfo, count: int, generator: torch.Generator) -> _Input:
    """Random numbers of standard deviation 1, with a 1/f spectrum along the axes of positions."""
    assert info.shape is not None
    first, *others = info.shape
    sizes = [int(size) for size in others]  # type: ignore[arg-type]
    shape = (count * (first if isinstance(first, int) else 1), *sizes)
    channel = len(shape) - 1 if channels_last(shape) else 1
    axes = tuple(axis for axis in range(1, len(shape)) if axis != channel)
    each = [size if axis == channel and axes else 1 for axis, size in enumerate(shape)]
    noise = torch.randn(shape, generator=generator)
    amplitude = torch.ones(())
    if axes:
        noise = torch.view_as_real(fft.rfftn(noise, dim=axes, norm="ortho"))
        amplitude = _amplitude(shape, axes)
    return _Input(info, shape, axes, noise, amplitude, torch.zeros(each), torch.zeros(each))


def _amplitude(shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """1/f for every frequency of `rfftn`, of mean square 1; the lowest count as one period."""
    squares = torch.zeros([1] * len(shape))
    for axis in axes:
        of = fft.rfftfreq if axis == axes[-1] else fft.fftfreq
        squares = squares + of(shape[axis]).square().reshape([-1 if a == axis else 1 for a in range(len(shape))])
    lowest = 1.0 / max(shape[axis] for axis in axes)
    amplitude = 1.0 / squares.sqrt().clamp(min=lowest)
    return amplitude / amplitude.square().mean().sqrt()


def _choose_beginning(
    module: GraphModule, made: Sequence[_Input], wanted: Mapping[str, tuple[Tensor, Tensor]], rows: Mapping[str, int]
) -> None:
    """Set scale and offset of all inputs to those of a small table that come nearest."""
    best = math.inf
    chosen = (0.0, 0.0)
    with torch.no_grad():
        plain = {i.info.name: i.numbers() for i in made}
        some = {name: x[: max(min(_LOOKED_AT, len(x)) // rows[name], 1) * rows[name]] for name, x in plain.items()}
        for scale in _SCALES:
            for offset in _OFFSETS:
                feeds = {name: (x + offset) * scale for name, x in some.items()}
                distance = float(_distance(module, feeds, wanted, rows))
                if distance < best:
                    best, chosen = distance, (scale, offset)
        if math.isinf(best):
            raise ModelError("synthesizing samples: the network gives no finite numbers for random inputs; give --data")
        for i in made:
            i.scale.fill_(math.log(chosen[0]))
            i.offset.fill_(chosen[1])


def _distance(
    module: GraphModule,
    feeds: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[Tensor, Tensor]],
    rows: Mapping[str, int],
) -> Tensor:
    """The mean over values of Σ_c (μ_c − m_c)² + (σ_c − s_c)², in parts of Σ_c s_c²."""
    parts = zip(*(x.split(rows[name]) for name, x in feeds.items()), strict=True)
    runs: list[dict[str, Any]] = [module.run(dict(zip(feeds, part, strict=True)), list(wanted)) for part in parts]
    total = torch.zeros(())
    for name, (mean, deviation) in wanted.items():
        value = torch.cat([run[name] for run in runs]) if len(runs) > 1 else runs[0][name]
        axes = [0, *range(2, value.dim())]
        moved = value.mean(axes) - mean
        spread = (value.var(axes, unbiased=False) + _TINY).sqrt() - deviation
        total = total + (moved.square() + spread.square()).sum() / (deviation.square().sum() + _TINY)
    return total / len(wanted)
