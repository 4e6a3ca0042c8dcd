"""Samples for those who have none, made from what the network itself tells of its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.core.normal import Normal
from fewbit.data import DataSource, InputInfo
from fewbit.data.check import Feed
from fewbit.errors import DataError
from fewbit.extras import load_extra
from fewbit.flow.common import SYNTHETIC, hub_inputs, is_synthetic, samples_for, synthetic_feed
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.repair import multiplications
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.masks import attention_mask_adds
from fewbit.graph.normals import remembered_normals
from fewbit.graph.ops import kind_of
from fewbit.progress import Progress

_COUNT = 64
_LEAST = 8
_WORK = 5e9  # multiplications for one sample, times samples; 2.6e9 of ResNet-20 take 44 CPU-s (docs/synthetic.md)
_TOGETHER = 32  # samples whose statistics are matched together, as far as memory allows
_MEMORY = 1 << 30  # bytes of activations that are kept for the gradients
_TOKENS = 128  # where a length is free: that of nine tenths of BERT's training (Devlin et al. 2019, appendix A.2)
_INSTEAD = "give --data, or a recipe that needs no samples (int8-dynamic, int8-weights)"


def calibration_source(
    data: Any,
    hub: Hub,
    *,
    limit: int | None,
    most: int | None = None,
    preprocess: str | None,
    purpose: str,
    threads: int,
    progress: Progress,
    seed: int = 0,
    any_layout: bool = False,
) -> DataSource:
    """The samples that were given, the first `limit` or else `most` of them; for `synthetic`, samples made for this network.

    Args:
        any_layout: take samples of the model's ONNX form too, with their channels first, for a model that has them last.

    How many are made, where `limit` does not say it: 64, `most` at most, and in large networks fewer, but 8 at least.

    Raises:
        DataError: the network tells nothing from which samples could be made. MissingExtraError: torch is not installed.
    """
    if not is_synthetic(data):
        inputs, wanted = hub_inputs(hub), limit or most
        if not any_layout or data is None:
            return samples_for(data, inputs, limit=wanted, preprocess=preprocess, purpose=purpose)
        source, notes = samples_in_layout(data, inputs, limit=wanted, preprocess=preprocess, purpose=purpose)
        for note in notes:
            progress.note(note)
        return source
    count = limit or min(_COUNT, most or _COUNT)
    if count < 1:
        raise DataError(f"the number of samples must be at least 1, given {count}")
    inputs = hub_inputs(hub)
    if inputs and not any(_is_float(info) for info in inputs):
        how = "random tokens"
        feeds = list(_random_tokens(hub, inputs, count, seed))
    else:
        normals = remembered_normals(hub)
        _check(inputs, normals)
        if limit is None:
            work = sum(multiplications(hub, synthetic_feed(inputs)).values()) or 1.0
            count = min(count, max(_LEAST, int(_WORK / work)))
        how = f"the statistics of {len(normals)} batch normalization{'s' if len(normals) > 1 else ''}"
        feeds = list(_matching(hub, inputs, normals, count, seed, threads, progress))
    return DataSource(
        lambda: feeds, inputs, description=f"synthesis from {how}, seed {seed}", count=count, synthetic=how
    )


def _is_float(info: InputInfo) -> bool:
    return info.dtype is not None and info.dtype.kind == "f"


def _check(inputs: Sequence[InputInfo], normals: dict[str, Normal]) -> None:
    """Raise DataError where inputs cannot be made from batch normalizations."""
    if not normals:
        raise DataError(
            f"--data {SYNTHETIC}: the model holds no batch normalization, which alone would remember what its data looked "
            f"like (perhaps they were folded before the export: export it again with them); {_INSTEAD}"
        )
    for info in inputs:
        if not _is_float(info) or info.shape is None:
            raise DataError(
                f"--data {SYNTHETIC}: samples cannot be made for input {info}, which is no float tensor; {_INSTEAD}"
            )
        free = [str(size or "?") for size in info.shape[1:] if not isinstance(size, int)]
        if free:
            raise DataError(
                f"--data {SYNTHETIC}: the sizes {', '.join(free)} of input {info} are free; export the model with the sizes "
                "that it will run with, or give --data"
            )


def _matching(
    hub: Hub,
    inputs: Sequence[InputInfo],
    normals: dict[str, Normal],
    count: int,
    seed: int,
    threads: int,
    progress: Progress,
) -> Iterator[Feed]:
    load_extra("torch", "Synthesizing samples")
    from fewbit.torchgraph import training
    from fewbit.torchgraph.module import to_torch
    from fewbit.torchgraph.samples import stackable
    from fewbit.torchgraph.synthesize import Pace, synthesize

    module, pace = to_torch(hub, trainable=False), Pace()
    together = min(_TOGETHER, max(1, _MEMORY // _activation_bytes(hub)))
    parts = [part.size for part in np.array_split(np.arange(count), math.ceil(count / together))]
    with (
        training.threads(threads),
        progress.task("synthesizing samples", len(parts) * pace.steps) as advance,
    ):
        for index, size in enumerate(parts):
            own = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
            yield from synthesize(
                module, inputs, normals, size, seed=own, pace=pace, stacked=stackable(hub), advance=advance
            )


def _activation_bytes(hub: Hub) -> int:
    """Bytes of all values of one sample as float32, as far as their sizes are known."""
    shapes = [shape_of(value) or () for node in hub.nodes() for value in node.outputs]
    return 4 * sum(math.prod(n for n in shape if isinstance(n, int)) for shape in shapes) or 1


def _random_tokens(hub: Hub, inputs: Sequence[InputInfo], count: int, seed: int) -> Iterator[Feed]:
    """Integers drawn evenly from the rows of the table that they choose from, and masks of attention that hide nothing."""
    highest = {info.name: _rows(hub, info) for info in inputs}
    random = np.random.default_rng(seed)
    for _ in range(count):
        feed = {}
        for info in inputs:
            sizes = [
                n if isinstance(n, int) else 1 if axis == 0 else _TOKENS for axis, n in enumerate(info.shape or ())
            ]
            rows = highest[info.name]
            made = np.ones(sizes) if rows is None else random.integers(0, rows, sizes)
            feed[info.name] = made.astype(info.dtype or np.int64)
        yield feed


def _rows(hub: Hub, info: InputInfo) -> int | None:
    """How many rows the smallest table has from which an input chooses, or None for a mask of attention.

    Raises:
        DataError: it is neither.
    """
    start = hub.value(info.name)
    tables = [
        int(node.inputs[0].const_value.shape.numpy()[0])  # type: ignore[union-attr]
        for node in hub.nodes()
        if kind_of(node) == "embedding" and start in _sources(node.inputs[1])
    ]
    if tables:
        return min(tables)
    if any(start in _sources(masked.mask) for masked in attention_mask_adds(hub)):
        return None
    raise DataError(
        f"--data {SYNTHETIC}: samples cannot be made for input {info}: it is neither an index into an embedding nor a mask of "
        f"attention; {_INSTEAD}"
    )


def _sources(value: ir.Value | None) -> set[ir.Value]:
    """The graph inputs that a value is computed from."""
    found: set[ir.Value] = set()
    seen: set[ir.Value] = set()
    waiting = [value]
    while waiting:
        reached = waiting.pop()
        if reached is None or reached in seen:
            continue
        seen.add(reached)
        node = reached.producer()
        if node is None:
            found |= {reached} if reached.is_graph_input() else set()
        else:
            waiting.extend(node.inputs)
    return found
