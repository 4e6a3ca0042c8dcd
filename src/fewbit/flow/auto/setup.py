"""What a search is asked for, as the processes that work for it are told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fewbit.data.source import Selected, open_source
from fewbit.errors import DataError
from fewbit.measure.metrics import Metric, resolve_metric

Part = Literal["calibration", "search", "certification", "training"]
PARTS: tuple[Part, ...] = ("calibration", "search", "certification", "training")

_CHUNK = 1 << 20  # bytes of a file that are hashed at a time


@dataclass(frozen=True, slots=True)
class Setup:
    """What every piece of work needs to know.

    model: the file to be quantized. data, evaluation, certification: samples, as the user gave them; where there is no
    evaluation, its samples are some of the data, and the metric compares with the float model.
    """

    model: str
    data: Any
    evaluation: Any
    certification: Any
    metric: Any
    preprocess: str | None
    target: str
    seed: int
    confidence: float
    calibration_limit: int
    signature: str | None = None

    def resolved_metric(self) -> Metric:
        return resolve_metric(self.metric)

    def source_of(self, part: Part) -> Any:
        """The samples that a part is taken from, as the user gave them."""
        if part in ("calibration", "training"):
            return self.data
        given = self.certification if part == "certification" else None
        return given if given is not None else self.data if self.evaluation is None else self.evaluation


@dataclass(frozen=True, slots=True)
class Splits:
    """Which samples serve for what: their positions in their sources. No sample serves for two things.

    training: samples for calibration, and all others beside them that serve for nothing else.
    label_count: distinct labels by which the parts were stratified; None where they were not.
    """

    calibration: Sequence[int]
    search: Sequence[int]
    certification: Sequence[int]
    training: Sequence[int]
    label_count: int | None = None

    def selected(self, setup: Setup, part: Part) -> Selected:
        """The samples of a part."""
        return Selected(setup.source_of(part), getattr(self, part))

    def with_positions(self, part: Part, positions: Sequence[int]) -> Splits:
        """The same with other positions for a part."""
        return Splits.from_dict({**self.to_dict(), part: positions})

    def to_dict(self) -> dict[str, Any]:
        return {
            **{str(part): list(map(int, getattr(self, part))) for part in PARTS},
            "label_count": self.label_count,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Splits:
        calibration, search, certification, training = (tuple(data[part]) for part in PARTS)
        return cls(calibration, search, certification, training, data["label_count"])


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def described(source: Any) -> str | None:
    """A source in the words in which the user gave it; None where it is an object."""
    return str(source) if isinstance(source, str | Path) else None


def first_look(source: Any, preprocess: str | None, inputs: Sequence[Any]) -> str:
    """A digest of the first sample: whether these are the samples that they were.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    if source is None:
        return ""
    given, label = next(open_source(source, inputs=inputs, limit=1, preprocess=preprocess).items())
    arrays = given if isinstance(given, Mapping) else {"": given}
    digest = hashlib.sha256()
    for name in sorted(map(str, arrays)):
        array = np.ascontiguousarray(arrays[name])
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    digest.update(repr(np.asarray(label).tolist() if label is not None else None).encode())
    return digest.hexdigest()


def check_repeatable(source: Any, what: str) -> None:
    """Raise DataError for samples that can be read once."""
    if hasattr(source, "__next__"):
        raise DataError(
            f"{what} are an iterator, which can be read once, and a search reads them again: give a list, or a function"
        )
