"""Calibration samples as torch has them: tensors, and loaders of batches with labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fewbit.data import DataSource, InputInfo, open_source
from fewbit.data.check import Feed
from fewbit.errors import DataError


def source_of(data: Any, inputs: Sequence[InputInfo], limit: int | None) -> DataSource:
    """Samples from anything that `fewbit.quantize` takes, or from a tensor or an iterable of batches of tensors.

    A batch is a tensor, a sequence whose first elements are the inputs (labels follow), or a mapping that holds the inputs
    among others. Batches become single samples where the model's first axes are of any size.

    Raises:
        DataError: the batches do not fit the model.
    """
    if isinstance(data, Tensor):
        return open_source(_array(data), inputs=inputs, limit=limit)
    plain = isinstance(data, str | Path | Mapping | np.ndarray | DataSource | Iterator) or callable(data)
    if plain or not isinstance(data, Iterable):
        return open_source(data, inputs=inputs, limit=limit)
    return DataSource(lambda: _samples(data, inputs), inputs, description="the samples given", limit=limit)


def _samples(batches: Iterable[Any], inputs: Sequence[InputInfo]) -> Iterator[Feed]:
    split = all(info.shape and not isinstance(info.shape[0], int) for info in inputs)
    for batch in batches:
        feed = _feed(batch, inputs)
        sizes = {len(array) for array in feed.values() if array.ndim}
        if not split or len(sizes) != 1:
            yield feed
        else:
            yield from ({name: array[i : i + 1] for name, array in feed.items()} for i in range(sizes.pop()))


def _feed(batch: Any, inputs: Sequence[InputInfo]) -> Feed:
    names = [info.name for info in inputs]
    if isinstance(batch, Sequence) and len(batch) == 2 and isinstance(batch[0], Mapping):
        batch = batch[0]  # a feed and its label
    if isinstance(batch, Mapping):
        given = {name: batch[name] for name in names if name in batch}
    else:
        parts = batch if isinstance(batch, Sequence) else (batch,)
        given = dict(zip(names, islice(parts, len(names)), strict=False))
    if len(given) != len(names):
        raise DataError(
            f"a batch of the samples holds {', '.join(given) or 'none'} of the model's inputs {', '.join(names)}; give "
            "tensors in their order, or a mapping with these names"
        )
    return {name: _array(value) for name, value in given.items()}


def _array(value: Any) -> np.ndarray[Any, Any]:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
