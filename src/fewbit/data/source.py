"""One interface to samples, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fewbit.callables import call_user_code, is_callable_text, load_callable
from fewbit.data.check import Feed, InputInfo, check_feed
from fewbit.errors import DataError


class Sample(NamedTuple):
    """One feed and, where the source has one, its label."""

    feed: Feed
    label: Any


class DataSource:
    """Samples that can be iterated again and again; each feed is checked against the model's inputs.

    synthetic: what the samples were made from, where they are not real; else None.

    Raises (while iterating):
        DataError: a sample that does not fit, or none at all.
    """

    def __init__(
        self,
        make: Callable[[], Iterable[Any]],
        inputs: Sequence[InputInfo],
        *,
        description: str,
        count: int | None = None,
        limit: int | None = None,
        synthetic: str | None = None,
    ) -> None:
        self._make, self._inputs = make, tuple(inputs)
        self.description, self.synthetic = description, synthetic
        self.count = count if limit is None or count is None else min(count, limit)
        self.limit = limit

    def __iter__(self) -> Iterator[Sample]:
        for index, (given, label) in enumerate(self.items()):
            yield Sample(self.checked(given, index), label)

    def checked(self, given: Any, index: int) -> Feed:
        """A feed that `items` gave, as the model takes it.

        Raises:
            DataError: it does not fit.
        """
        lone = not isinstance(given, Mapping) and len(self._inputs) == 1
        return check_feed({self._inputs[0].name: given} if lone else given, self._inputs, index)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Feeds as they come, unchecked, and labels."""
        stream = iter(call_user_code(lambda: iter(self._make()), self.description))
        count = 0
        while self.limit is None or count < self.limit:
            item = call_user_code(lambda: next(stream, _END), self.description)
            if item is _END:
                break
            yield item if isinstance(item, tuple) and len(item) == 2 else (item, None)
            count += 1
        if count == 0:
            raise DataError(f"{self.description} has no samples")

    def first(self) -> Any:
        """The first feed as it comes, unchecked."""
        return next(self.items())[0]

    def feeds(self) -> Iterator[Feed]:
        """The feeds alone."""
        return (sample.feed for sample in self)


_END = object()


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """Some samples of a source, by their positions in it (ascending)."""

    source: Any
    positions: Sequence[int]

    def of(self, items: Iterable[Any]) -> Iterator[Any]:
        """Those of the items; no more than needed are read."""
        wanted = iter(self.positions)
        position = next(wanted, None)
        for index, item in enumerate(items):
            if position is None:
                return
            if index == position:
                yield item
                position = next(wanted, None)


def first_feed(source: Any) -> Any:
    """The first feed of a source of samples, for a model whose inputs are not known yet: arrays by name, or a lone array.

    Raises:
        DataError: the source does not exist, has no samples, is read by looking, or needs to know the inputs.
    """
    if isinstance(source, np.ndarray):
        return source[:1]
    if isinstance(source, Iterator):
        raise DataError(
            "the samples are an iterator, which can be read once: give example_inputs, or a list of samples"
        )
    feed = open_source(source, inputs=(), limit=1).first()
    if isinstance(feed, Mapping) and len(feed) == 1 and next(iter(feed)).startswith("arr_"):
        return next(iter(feed.values()))  # np.savez without a name
    return feed


def open_source(
    source: Any,
    *,
    inputs: Sequence[InputInfo],
    limit: int | None = None,
    preprocess: str | Path | None = None,
) -> DataSource:
    """Open samples for a model with these inputs.

    Args:
        source: a path to an .npz (one array an input, samples on axis 0, optional `labels`), to a folder of numbered
            .npz files (one feed each), to a folder of images; `FILE.py:NAME` or `FILE.py:NAME("literal")`; in Python also
            a dict of arrays, an array for a model of one input, a callable, or an iterable of feeds or (feed, label).
        limit: take the first so many samples only.
        preprocess: for images, the name of a preset or a YAML file.

    Raises:
        DataError: the source does not exist or cannot be read.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the number of samples must be at least 1, given {limit}")
    if isinstance(source, Selected):
        whole = open_source(source.source, inputs=inputs, preprocess=preprocess)
        return DataSource(
            lambda: source.of(whole.items()),
            inputs,
            description=whole.description,
            count=len(source.positions),
            limit=limit,
        )
    if isinstance(source, DataSource):
        return DataSource(
            lambda: source,
            inputs,
            description=source.description,
            count=source.count,
            limit=limit,
            synthetic=source.synthetic,
        )
    if isinstance(source, str) and is_callable_text(source):
        made = load_callable(source)
        return _from_python(made, inputs, source, limit)
    if isinstance(source, str | Path):
        return _from_path(Path(source), inputs, limit, preprocess)
    return _from_python(source, inputs, "the samples given", limit)


def _from_python(source: Any, inputs: Sequence[InputInfo], description: str, limit: int | None) -> DataSource:
    if isinstance(source, Mapping):
        from fewbit.data.npz import batch_of, rows

        arrays = {str(k): np.asarray(v) for k, v in source.items()}
        held = len(next(iter(arrays.values()))) if arrays else 0
        feeds = held // batch_of(inputs)
        return DataSource(lambda: rows(arrays, inputs), inputs, description=description, count=feeds, limit=limit)
    if isinstance(source, np.ndarray):
        if len(inputs) != 1:
            raise DataError(
                f"one array was given, but the model takes {len(inputs)} inputs: {', '.join(map(str, inputs))}"
            )
        return _from_python({inputs[0].name: source}, inputs, description, limit)
    if callable(source):
        return DataSource(source, inputs, description=description, limit=limit)
    if not isinstance(source, Iterable):
        raise DataError(f"samples cannot be taken from {type(source).__name__}; see docs/data.md for what can be given")
    if isinstance(source, Iterator):
        return DataSource(_Once(source), inputs, description=description, limit=limit)
    count = len(source) if isinstance(source, Sequence) else None
    return DataSource(lambda: source, inputs, description=description, count=count, limit=limit)


class _Once:
    """An iterator can be read once; the second time says so instead of giving nothing."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator, self.used = iterator, False

    def __call__(self) -> Iterator[Any]:
        if self.used:
            raise DataError(
                "the samples are an iterator that was read already: give a list, or a function that makes it"
            )
        self.used = True
        return self.iterator


def _from_path(path: Path, inputs: Sequence[InputInfo], limit: int | None, preprocess: str | Path | None) -> DataSource:
    from fewbit.data import images, npz

    if path.is_dir():
        files = npz.numbered_files(path)
        if files:
            return DataSource(
                lambda: npz.read_files(files, inputs), inputs, description=str(path), count=len(files), limit=limit
            )
        pictures = images.find(path)
        if pictures:
            if not inputs:
                raise DataError(
                    f"{path} holds images, which become inputs by the size that the model takes, and this one does not say "
                    "it: give --input-shape name=1x3x224x224 (example_inputs=)"
                )
            pipeline = images.pipeline(preprocess, inputs)
            return DataSource(
                lambda: images.read(pictures, pipeline, inputs),
                inputs,
                description=str(path),
                count=len(pictures),
                limit=limit,
            )
        raise DataError(f"{path} holds neither .npz files nor images")
    if not path.exists():
        raise DataError(f"{path} does not exist; give an .npz, a folder of .npz or images, or FILE.py:NAME")
    if path.suffix != ".npz":
        raise DataError(f"{path} is not an .npz; give an .npz, a folder of .npz or images, or FILE.py:NAME")
    arrays, held = npz.open_npz(path)
    count = held // npz.batch_of(inputs)
    return DataSource(lambda: npz.rows(arrays, inputs), inputs, description=str(path), count=count, limit=limit)
