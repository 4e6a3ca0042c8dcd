"""Whether samples serve to calibrate and to evaluate a model: what a user should know before either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fewbit.data import DataSource
from fewbit.data.leakage import Shared, duplicates, overlap
from fewbit.errors import DataError, RecipeError
from fewbit.flow.calibrate import EFFORTS
from fewbit.flow.common import hub_inputs, samples_for
from fewbit.flow.data.facts import Classes, Facts, InputFacts, facts_of
from fewbit.flow.data.ranges import APART, MOVED, WIDER, Settled, Trained, look_inside
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.opening import ImportOptions, load, open_models
from fewbit.graph.answers import decisions
from fewbit.graph.hub import Hub
from fewbit.measure.metrics import Metric, resolve_metric
from fewbit.measure.suspicious import MOST, suspicious
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.onnxruntime import open_session

_UNBALANCED = 10.0  # times: a top-1 accuracy is then mostly that of the frequent classes
_NAMED = 5  # positions of samples in a warning; the JSON has all
_UNSETTLED = 0.2  # of the activations, whose ranges may still move: a few outliers move some at any number of samples


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What was found.

    leakage: samples that are among those for evaluation too; None where none were given. settled, trained: None where the
    model or the samples tell nothing. warnings: what to act on; none: the samples serve.
    """

    source: str
    samples: int
    inputs: Sequence[InputFacts]
    duplicates: Shared
    leakage: Shared | None
    evaluation_samples: int | None
    classes: Classes | None
    settled: Settled | None
    trained: Trained | None
    warnings: Sequence[str]
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "samples": self.samples,
            "inputs": [i.to_dict() for i in self.inputs],
            "duplicates": _pairs(self.duplicates),
            "leakage": None if self.leakage is None else _pairs(self.leakage),
            "evaluation_samples": self.evaluation_samples,
            "classes": None if self.classes is None else self.classes.to_dict(),
            "ranges": None if self.settled is None else self.settled.to_dict(),
            "training": None if self.trained is None else self.trained.to_dict(),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


def check_data(
    model: str | Path | Any,
    data: Any,
    *,
    evaluation: Any = None,
    metric: str | Metric | Any = None,
    preprocess: str | None = None,
    importing: ImportOptions = ImportOptions(),  # noqa: B008  (frozen)
    progress: Progress = SILENT,
) -> DataCheck:
    """Look at every sample, and run the float model on the first 128.

    Args:
        model: as of `fewbit.quantize`.
        data: samples (docs/data.md) that can be read more than once.
        evaluation: samples for evaluation, none of which may be among the data.
        metric: by which it is tried whether the labels (of `evaluation`, else of `data`) belong to their samples.

    Raises:
        InputError: samples that cannot be used, with how many they are and what is wrong with the first; a wrong model or
            metric; a metric without labels.
    """
    for what, given in (("the samples", data), ("the samples for evaluation", evaluation)):
        if isinstance(given, Iterator):
            raise DataError(
                f"{what} are an iterator, which can be read once, and a check reads them again: give a list"
            )
    chosen = None if metric is None else resolve_metric(metric)
    if chosen is not None and chosen.against == "baseline":
        raise RecipeError(f"metric {chosen.name} needs no labels, and --metric is to check them: give one such as top1")
    (opened,) = open_models([model], importing, data, progress)
    hub = load(opened)
    source, notes = _source(data, hub, preprocess)
    facts = _facts(source, hub, "the data", progress)
    other, other_facts = None, None
    if evaluation is not None:
        other, more = _source(evaluation, hub, preprocess)
        notes += more
        other_facts = _facts(other, hub, "--eval", progress)
    repeated = duplicates(facts.prints)
    leaked = None if other_facts is None else overlap(facts.prints, other_facts.prints)
    count = min(facts.count, EFFORTS["standard"].samples or facts.count)
    with progress.task("running the float model", count) as advance:
        settled, trained = look_inside(hub, source.feeds(), count, advance=advance)
    labelled, whose = (facts, "") if other_facts is None else (other_facts, " of --eval")
    classes = labelled.classes()
    warnings = [*_repeats(repeated, facts.count), *_constants(facts, notes)]
    warnings += _leaks(leaked) + _ranges(settled, trained) + _balance(classes, hub, whose)
    if chosen is not None:
        warnings += _labels(chosen, hub, other or source, labelled, progress)
    if facts.count == 1:
        warnings.append("there is one sample: whether its ranges are those of others cannot be told; give 32 at least")
    return DataCheck(
        source.description,
        facts.count,
        facts.inputs,
        repeated,
        leaked,
        None if other_facts is None else other_facts.count,
        classes,
        settled,
        trained,
        warnings,
        notes,
    )


def _source(data: Any, hub: Hub, preprocess: str | None) -> tuple[DataSource, list[str]]:
    """The samples, turned where the model has its channels elsewhere; as they are where nothing is turned."""
    inputs = hub_inputs(hub)
    turned, notes = samples_in_layout(data, inputs, limit=None, preprocess=preprocess, purpose="a check")
    if notes:
        return turned, notes
    # Sources that could not be turned either are read as they are, so that all that is wrong with them is counted.
    return samples_for(data, inputs, limit=None, preprocess=preprocess, purpose="a check"), []


def _facts(source: DataSource, hub: Hub, what: str, progress: Progress) -> Facts:
    with progress.task(f"looking at {what}", source.count) as advance:
        counted = DataSource(
            lambda: _advancing(source, advance), hub_inputs(hub), description=source.description, count=source.count
        )
        return facts_of(counted, hub_inputs(hub), what)


def _advancing(source: DataSource, advance: Any) -> Iterator[tuple[Any, Any]]:
    for item in source.items():
        yield item
        advance(1)


def _pairs(shared: Shared) -> dict[str, Any]:
    return {"exact": [list(pair) for pair in shared.exact], "near": [list(pair) for pair in shared.near]}


def _some(positions: Sequence[int]) -> str:
    more = f" and {len(positions) - _NAMED} more" if len(positions) > _NAMED else ""
    return ", ".join(map(str, positions[:_NAMED])) + more


def _repeats(shared: Shared, count: int) -> list[str]:
    told = []
    for pairs, how in ((shared.exact, "are copies"), (shared.near, "but for rounding are copies")):
        if pairs:
            told.append(
                f"{len(pairs)} of {count} samples {how} of earlier ones (positions {_some([i for i, _ in pairs])}): they "
                "show calibration nothing new; leave them out"
            )
    return told


def _constants(facts: Facts, notes: list[str]) -> list[str]:
    """Samples of one value; inputs that are so in all samples are states or flags, and get a note."""
    told = []
    for info in facts.inputs:
        if len(info.constant) == facts.count > 1 and info.low == info.high:
            notes.append(f"input {info.name} is {info.low:g} in every sample")
        elif info.constant and info.given.startswith("float"):
            told.append(
                f"input {info.name} holds a single value in {len(info.constant)} of {facts.count} samples (positions "
                f"{_some(info.constant)}): blank ones; leave them out"
            )
    return told


def _leaks(shared: Shared | None) -> list[str]:
    if shared is None or not (shared.exact or shared.near):
        return []
    pairs = sorted((*shared.exact, *shared.near))
    return [
        f"{len(pairs)} samples are among those for evaluation too ({len(shared.near)} of them but for rounding; positions "
        f"{_some([i for i, _ in pairs])}): what is measured there is too good; take them out of one"
    ]


def _ranges(settled: Settled | None, trained: Trained | None) -> list[str]:
    told = []
    if settled is not None and settled.moved > _UNSETTLED * settled.activations:
        told.append(
            f"{settled.moved} of {settled.activations} ranges of activations still move by more than {MOVED:.0%} from the "
            f"first half of the {settled.samples} samples to all of them (most: {settled.worst[0]}, {settled.worst[1]:.0%}): "
            "give more samples, or others (`fewbit data select`)"
        )
    if trained is not None and not trained.alike:
        told.append(
            f"values are not as in training: at {trained.value} they vary {trained.width:.3g} times as much and lie "
            f"{trained.apart:.3g} deviations away (up to {WIDER:g} and {APART:g} is usual): check --preprocess (range, mean, "
            "order of colours)"
        )
    return told


def _balance(classes: Classes | None, hub: Hub, whose: str) -> list[str]:
    if classes is None:
        return []
    told = []
    if classes.ratio > _UNBALANCED:
        (most, many), (least, few) = classes.counts[0], classes.counts[-1]
        told.append(
            f"labels{whose} are out of balance: {many} samples of {most}, {few} of {least}; top1 says little of the rare ones"
        )
    labels = [label for label, _ in classes.counts]
    shapes = [hub.shape(hub.value(name)) for name in sorted(decisions(hub))]
    known = shapes[0][-1] if len(shapes) == 1 and shapes[0] else None
    numbers = [label for label in labels if isinstance(label, int) and not isinstance(label, bool)]
    if isinstance(known, int) and len(numbers) == len(labels):
        if max(numbers) >= known or min(numbers) < 0:
            wrong = max(numbers) if max(numbers) >= known else min(numbers)
            told.append(
                f"label {wrong}{whose} is none of the model's {known} answers, 0 to {known - 1}: check the labels"
            )
        elif len(labels) < known:
            told.append(f"labels{whose} have {len(labels)} of the model's {known} answers: the others are not seen")
    return told


def _labels(metric: Metric, hub: Hub, source: DataSource, facts: Facts, progress: Progress) -> list[str]:
    """Whether the labels belong to the samples, by what the float model makes of these."""
    if any(label is None for label in facts.labels):
        raise RecipeError(
            f"metric {metric.name} needs a label with every sample: give labelled samples, or no --metric"
        )
    session = open_session(hub.model)
    outputs, labels = [], []
    with progress.task("checking labels", min(facts.count, MOST)) as advance:
        for sample in islice(source, MOST):
            outputs.append(session.run(sample.feed))
            labels.append(sample.label)
            advance(1)
    told = suspicious(metric, outputs, labels)
    return [] if told is None else [told]
