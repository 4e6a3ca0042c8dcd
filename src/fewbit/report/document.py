"""The document of `fewbit auto` (auto.json) as values: what the terminal and the page are made from.

    {"schema_version": 1, "model": {…}, "target": "ort-cpu", "objective": "latency", "limits": {…}, "metric": {…},
     "splits": {…}, "candidates": [{…}], "chosen": "int8", "verdict": {…}, "layers": [{…}], "advice": […], "notes": […]}

A figure that is absent, null or not finite is None: nothing measured is not an error. Keys that are not known are left
alone. Names come from model files: they are made printable here, once, and escaped where they are written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from fewbit.errors import InputError
from fewbit.report.words import plain

SCHEMA_VERSION = 1


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printable(value: object) -> object:
    if value is None:
        return ""
    return plain(str(value)) if isinstance(value, (str, int, float)) else value


def _listed(value: object) -> object:
    return () if value is None else value


Number = Annotated[float | None, BeforeValidator(_finite)]
Count = Annotated[int | None, BeforeValidator(_finite)]
Text = Annotated[str, BeforeValidator(_printable)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]


@dataclass(frozen=True, slots=True)
class Model:
    """The float model: its file's name, size in bytes, and fingerprint."""

    name: Text = ""
    bytes: Number = None
    fingerprint: Text = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate must keep to: loss of metric, bytes of the file, latency as a share of float's, bytes of memory."""

    max_drop: Number = None
    max_drop_text: Text = ""
    max_size: Number = None
    max_latency_ratio: Number = None
    max_memory: Number = None


@dataclass(frozen=True, slots=True)
class Metric:
    """The task metric, and what the float model reaches; `points` if it is a share."""

    name: Text = ""
    higher_is_better: bool = True
    points: bool = False
    value: Number = None


@dataclass(frozen=True, slots=True)
class Splits:
    """How many samples served what."""

    calibration: Count = None
    search: Count = None
    certification: Count = None
    seed: Count = None
    stratified: bool | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """How many times as fast as float, with its interval; milliseconds for one run."""

    ratio: Number = None
    low: Number = None
    high: Number = None
    milliseconds: Number = None


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one run as a share of float's, and where the figure is from."""

    ratio: Number = None
    estimated: bool = True
    source: Text = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One quantized form: sizes in bytes, `smaller` and losses as shares or in the metric's unit, positive is worse. gain: how
    many times better than float it is for the objective."""

    id: Text
    label: Text = ""
    stage: Text = ""
    status: Text = ""
    reason: Text = ""
    bytes: Number = None
    smaller: Number = None
    latency: Latency | None = None
    memory: Number = None
    energy: Energy | None = None
    gain: Number = None
    sqnr_db: Number = None
    value: Number = None
    drop: Number = None
    drop_low: Number = None
    drop_high: Number = None
    samples: Count = None
    seconds: Number = None
    frontier: bool = False
    chosen: bool = False

    @property
    def title(self) -> str:
        return self.label or self.id


@dataclass(frozen=True, slots=True)
class Flips:
    """Answers that changed: as a share, and how many for the worse and for the better."""

    changed: Number = None
    worse: Count = None
    better: Count = None


@dataclass(frozen=True, slots=True)
class WorstClass:
    """The class that lost most."""

    name: Annotated[Text, Field(alias="class")] = ""
    before: Annotated[Number, Field(alias="float")] = None
    after: Annotated[Number, Field(alias="quantized")] = None
    samples: Count = None


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Expected calibration error of the probabilities."""

    before: Annotated[Number, Field(alias="float")] = None
    after: Annotated[Number, Field(alias="quantized")] = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the samples kept for certification say: `low` to `high` is the drop's interval, `upper` its one-sided bound."""

    kind: Text = "none"
    sentence: Text = ""
    baseline: Number = None
    value: Number = None
    drop: Number = None
    low: Number = None
    high: Number = None
    upper: Number = None
    confidence: Number = None
    samples: Count = None
    needed: Count = None
    method: Text = ""
    flips: Flips | None = None
    worst_class: WorstClass | None = None
    calibration_error: CalibrationError | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the chosen form; `work` is its share of the multiplications."""

    name: Text
    op: Text = ""
    form: Text = ""
    weight: Text = ""
    bits: Number = None
    activation: Text = ""
    sqnr_db: Number = None
    work: Number = None
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class Document:
    """All of it. compared_by: what candidates are compared by, where that is not the objective itself."""

    schema_version: int
    fewbit: Text = ""
    created: Text = ""
    command: Text = ""
    model: Annotated[Model, BeforeValidator(lambda v: {} if v is None else v)] = field(default_factory=Model)
    target: Text = ""
    runtime: Text = ""
    cpu: Text = ""
    objective: Text = ""
    compared_by: Text = ""
    limits: Annotated[Limits, BeforeValidator(lambda v: {} if v is None else v)] = field(default_factory=Limits)
    metric: Annotated[Metric, BeforeValidator(lambda v: {} if v is None else v)] = field(default_factory=Metric)
    splits: Annotated[Splits, BeforeValidator(lambda v: {} if v is None else v)] = field(default_factory=Splits)
    candidates: Annotated[tuple[Candidate, ...], BeforeValidator(_listed)] = ()
    chosen: Annotated[str | None, BeforeValidator(lambda v: None if v is None else _printable(v))] = None
    verdict: Verdict | None = None
    layers: Annotated[tuple[Layer, ...], BeforeValidator(_listed)] = ()
    advice: Texts = ()
    notes: Texts = ()
    evaluations: Number = None
    seconds: Number = None
    budget: Number = None

    @property
    def scale(self) -> str:
        """What candidates are compared by: the objective, or what stands for it where nothing is timed."""
        return self.compared_by or self.objective

    @property
    def timed(self) -> bool:
        """Whether anything was timed, so that float has a speed to compare with."""
        return any(c.latency is not None for c in self.candidates)

    @property
    def winner(self) -> Candidate | None:
        """The chosen candidate."""
        return next((c for c in self.candidates if c.id == self.chosen), None)

    def change(self, drop: float | None) -> float | None:
        """A loss as a change of the metric itself: where less is better, a loss is a rise."""
        return None if drop is None else -drop if self.metric.higher_is_better else drop


def parse(data: Mapping[str, Any], source: str = "the document") -> Document:
    """Check a document and make values of it.

    Args:
        data: what `fewbit auto --json` prints.
        source: what it is called in an error.

    Raises:
        InputError: of another schema version, or a key holds what it cannot.
    """
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        found = "no schema_version" if version is None else f"schema_version {version!r}"
        raise InputError(
            f"{source} has {found}, this fewbit reads {SCHEMA_VERSION}; run fewbit auto again, or the fewbit that wrote it"
        )
    try:
        return TypeAdapter(Document).validate_python(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        given = repr(first["input"])
        given = given if len(given) <= _SHOWN else given[:_SHOWN] + "…"
        raise InputError(
            f"{source} is not what fewbit auto writes: {place}: {first['msg'].lower()}, given {given}; run fewbit auto again"
        ) from error


_SHOWN = 60  # characters of a wrong value that an error repeats
