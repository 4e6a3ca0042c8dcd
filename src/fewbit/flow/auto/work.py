"""The pieces of work of a search. Each runs in a process of its own, and gives plain data and perhaps files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.data import DataSource
from fewbit.data.source import Selected
from fewbit.errors import DataError, RecipeError
from fewbit.flow.auto.describe import can_learn, layers_of
from fewbit.flow.auto.divide import divide
from fewbit.flow.auto.setup import Part, Setup, Splits
from fewbit.flow.benchmark import benchmark
from fewbit.flow.common import hub_inputs, target_for
from fewbit.flow.faces import same_inputs, samples_for_all, samples_in_layout
from fewbit.flow.formats import format_of
from fewbit.flow.opening import load
from fewbit.flow.quantize import float_bytes, quantize, speed_note
from fewbit.flow.repair import products
from fewbit.flow.tune import tune
from fewbit.flow.verification import details_for
from fewbit.graph.hub import Hub
from fewbit.measure.behaviour import behaviour
from fewbit.measure.compare import finite_or_none
from fewbit.measure.meters import find_meter
from fewbit.measure.metrics import Metric
from fewbit.measure.paired import (
    hopeless,
    judge,
    paired_drop,
    per_sample,
    takes_long,
    unbounded_drop,
    unit_losses,
)
from fewbit.measure.suspicious import suspicious
from fewbit.plan.plan import Plan
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.session import Outputs
from fewbit.runtimes.table import Runtime, open_model, runtime_named

MODEL, PLAN, FLOAT = "model", "plan.json", "float"
_LOOK = 0.35  # of the samples for the search, chosen at random, after which a candidate without hope is stopped
_RESAMPLING: Mapping[Part, float] = {"search": 5.0, "certification": 40.0}  # seconds, for metrics that are no means
_CALLS = 400  # of a metric that is no mean: 200 resamples of two models
_TIMING_ROUNDS = 31
Stored = list[Outputs]


def survey(setup: Setup, folder: Path, progress: Progress) -> dict[str, Any]:
    """Look at all samples once, and say which serve for what."""
    hub = graph_of(setup)
    divided = divide(setup, hub_inputs(hub), progress)
    return {"splits": divided.splits.to_dict(), "notes": list(divided.notes)}


def float_twin(setup: Setup, splits: Splits, folder: Path, progress: Progress) -> dict[str, Any]:
    """The float model as a file of the target's format, which candidates are timed beside."""
    target = target_for(setup.target)
    format = format_of(target)
    hub = graph_of(setup)
    path = folder / f"{FLOAT}{format.suffix}"
    source = calibration_samples(setup, splits, hub)
    details = details_for(
        format, hub, _no_plan(hub, setup), source, setup.model, keep_names=False, signature=setup.signature
    )
    format.write(hub.clone().model, path, details)
    done = products(hub, next(iter(source.feeds())))
    total = sum(count for count, _ in done.values()) or 1.0
    return {
        "file": path.name,
        "bytes": _size(folder),
        "given_bytes": float_bytes(setup.model, hub),
        "fingerprint": hub.fingerprint(),
        "products": done,
        "work": {name: count / total for name, (count, _) in done.items()},
    }


def reference(setup: Setup, splits: Splits, part: Part, folder: Path, progress: Progress) -> dict[str, Any]:
    """What the float model answers to the samples of a part, kept for all candidates to be compared with."""
    started = time.perf_counter()
    metric = setup.resolved_metric()
    outputs, labels = _answers(None, setup, splits, part, progress)
    seconds = time.perf_counter() - started
    value = metric(outputs, labels if metric.against == "labels" else outputs)
    store_outputs(folder / "outputs.npz", outputs)
    return {
        "value": value,
        "samples": len(outputs),
        "seconds": seconds,
        "warnings": _doubts(metric, outputs, labels) if part == "search" else [],
    }


def build(
    setup: Setup, splits: Splits, candidate: Mapping[str, Any], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Quantize the model as a candidate asks, train it if it asks for that too, and verify the file."""
    target = target_for(setup.target)
    path = folder / f"{MODEL}{format_of(target).suffix}"
    notes: list[str] = []
    if candidate.get("tune"):
        tuned = tune(
            setup.model,
            splits.selected(setup, "training"),
            candidate["recipe"],
            target,
            path,
            effort=candidate["effort"],
            preprocess=setup.preprocess,
            seed=setup.seed,
            progress=progress,
        )
        result, notes = tuned.quantized, [*tuned.notes]
    else:
        result = quantize(
            setup.model,
            splits.selected(setup, "calibration"),
            candidate["recipe"],
            target,
            path,
            effort=candidate["effort"],
            min_sqnr=candidate["min_sqnr"],
            limit=len(splits.calibration),
            preprocess=setup.preprocess,
            signature=setup.signature,
            progress=progress,
        )
    result.plan.save(str(folder / PLAN))
    told = result.to_dict()
    verification = told["verification"]
    quick = speed_note(result.plan, target, result.verification)  # `measure` looks longer, and may say something else
    return {
        "file": path.name,
        "bytes": result.bytes,
        "sqnr_db": min((o["sqnr_db"] for o in verification["outputs"] if o["sqnr_db"] is not None), default=None),
        "layers": layers_of(result.plan),
        "can_learn": can_learn(result.plan),
        "kernels": verification["kernels"],
        "forms": told["forms"],
        "notes": [*notes, *(note for note in told["notes"] if note != quick)],
    }


def score(
    setup: Setup,
    splits: Splits,
    part: Part,
    model: str,
    answers: str,
    pooled: str | None,
    limit: float,
    points: bool,
    confidence: float,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """A candidate's file on the samples of a part, beside what the float model answered.

    Args:
        model: the file. answers: the float model's, as `reference` kept them. pooled: those to the samples for the search;
            where these here do not decide, `all` is the drop on all of them together. limit: the drop that is
            tolerated, in the metric's unit: on the samples for the search, a candidate that exceeds it beyond doubt is
            stopped early. points: whether drops are told in points.
    """
    started = time.perf_counter()
    metric = replace(setup.resolved_metric(), points=points)
    real = dict(zip(getattr(splits, part), load_outputs(Path(answers)), strict=True))
    given: dict[int, tuple[Outputs, Any]] = {}
    stopped = slow = False
    for positions in _looks(splits, part, setup.seed):
        before = len(given)
        some = splits.with_positions(part, positions)
        given |= zip(positions, _run(model, setup, some, part, progress), strict=True)
        if part == "search" and len(given) < len(real):
            outputs, labels = map(list, zip(*given.values(), strict=True))
            known = [real[i] for i in given]
            wanted = labels if metric.against == "labels" else known
            slow = takes_long(metric, outputs, wanted, calls=_CALLS, seconds=_RESAMPLING[part])
            if slow:
                continue
            losses = unit_losses(metric, outputs, known, wanted)
            stopped = hopeless(losses, limit, planned=len(real), seen=len(given), before=before)
            if stopped:
                break
    order = sorted(given)
    outputs, labels = [given[i][0] for i in order], [given[i][1] for i in order]
    reference = [real[i] for i in order]
    seconds = _RESAMPLING[part]
    if slow:
        drop = unbounded_drop(metric, outputs, reference, labels, confidence=confidence)
    else:
        drop = paired_drop(metric, outputs, reference, labels, confidence=confidence, seed=setup.seed, seconds=seconds)
    verdict = judge(drop, limit)
    return {
        "drop": drop.to_dict(),
        "all": None
        if pooled is None or verdict.kind != "undecided"
        else _pooled(metric, model, setup, splits, pooled, (outputs, reference, labels)),
        "kind": verdict.kind,
        "needed": verdict.needed,
        "sentence": verdict.sentence().partition(": ")[2],
        "stopped": stopped,
        "behaviour": _behaviour(metric, drop.baseline, outputs, reference, labels),
        "seconds": time.perf_counter() - started,
    }


def _pooled(
    metric: Metric,
    model: str,
    setup: Setup,
    splits: Splits,
    answers: str,
    others: tuple[Stored, Stored, list[Any]],
) -> float | None:
    """The drop on the samples for the search and on others together, (outputs, float outputs, labels); None of a metric that
    is a mean, where it is that of both drops."""
    outputs, reference, labels = others
    if per_sample(metric, reference, reference if metric.against == "baseline" else labels) is not None:
        return None
    found, known = _answers(model, setup, splits, "search", SILENT)
    both = (outputs + found, reference + load_outputs(Path(answers)), labels + known)
    return finite_or_none(unbounded_drop(metric, *both).drop)


def measure(
    setup: Setup, splits: Splits, model: str, baseline: str, energy: bool, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Time a candidate's file in turns with the float model, on one thread; the memory that it takes; and, where energy
    counts and there is a meter, the joules of a run of either. Where the target is not timed, the memory of activations
    alone."""
    runtime = runtime_of_target(setup)
    if not runtime.timed:
        arena = runtime.execution(model).arena
        return {
            "latency": None,
            "float_milliseconds": None,
            "joules": None,
            "memory": None if arena is None else arena.bytes,
            "runtime": f"{runtime.title} {runtime.version()}",
        }
    found = benchmark(
        model,
        baseline=baseline,
        data=Selected(setup.data, splits.calibration[:1]),
        target=setup.target,
        rounds=_TIMING_ROUNDS,
        preprocess=setup.preprocess,
        progress=progress,
    )
    meter = find_meter() if energy else None
    joules = None if meter is None else [meter.joules(_runs(path, setup, splits)) for path in (baseline, model)]
    latency, float_latency = found.timings[0].model, found.timings[0].baseline
    return {
        "latency": {
            "ratio": latency.ratio,
            "low": latency.low,
            "high": latency.high,
            "milliseconds": latency.milliseconds,
        },
        "float_milliseconds": None if float_latency is None else float_latency.milliseconds,
        "joules": joules,
        "meter": None if meter is None else meter.source,
        "memory": found.memory,
        "float_memory": found.baseline_memory,
        "runtime": found.runtime,
        "cpu": found.cpu,
        "notes": list(found.notes),
    }


def store_outputs(path: Path, outputs: Sequence[Outputs]) -> None:
    """Keep outputs, whatever their shapes."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, given in enumerate(outputs):
        for position, array in enumerate(given):
            arrays[f"{index}/{position}"] = np.asarray(array)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_outputs(path: Path) -> Stored:
    """What `store_outputs` kept."""
    outputs: Stored = []
    with np.load(path) as stored:
        for name in stored.files:
            index, position = map(int, name.split("/"))
            if index == len(outputs):
                outputs.append([])
            assert position == len(outputs[index])
            outputs[index].append(stored[name])
    return outputs


def graph_of(setup: Setup) -> Hub:
    """The float model as a graph."""
    return load(setup.model, signature=setup.signature)


def runtime_of_target(setup: Setup) -> Runtime:
    """Where candidates run."""
    name = target_for(setup.target).runtime
    runtime = runtime_named(name)
    if runtime is None:
        raise RecipeError(f"target {setup.target} runs in {name}, which is not on this machine: a search cannot try it")
    return runtime


def _no_plan(hub: Hub, setup: Setup) -> Plan:
    return Plan(hub.fingerprint(), setup.target, "float", {}, {})


def calibration_samples(setup: Setup, splits: Splits, hub: Hub, limit: int | None = None) -> DataSource:
    """The samples for calibration, in the layout of the graph."""
    source, _ = samples_in_layout(
        splits.selected(setup, "calibration"),
        hub_inputs(hub),
        limit=limit,
        preprocess=setup.preprocess,
        purpose="calibration",
    )
    return source


def _run(
    model: str | None, setup: Setup, splits: Splits, part: Part, progress: Progress
) -> Iterator[tuple[Outputs, Any]]:
    """(outputs, label) of every sample of a part, as the float model would give them; None: of the float model itself."""
    sessions = {"the float model": open_model(setup.model)}
    if model is not None:
        # What opens the file by its content may have other kernels, which round otherwise.
        sessions["the candidate"] = runtime_of_target(setup).open_session(model)
    source, faced, _ = samples_for_all(
        sessions,
        splits.selected(setup, part),
        limit=None,
        preprocess=setup.preprocess,
        purpose="evaluation",
        outputs=not same_inputs([*sessions.values()]),
    )
    with progress.task(f"evaluating on samples for {part}", source.count) as advance:
        for sample in source:
            yield faced[-1].run(sample.feed), sample.label
            advance(1)


def _doubts(metric: Metric, outputs: Stored, labels: Sequence[Any]) -> list[str]:
    """What speaks against the labels.

    Raises:
        DataError: the float model does no better than by chance, or the metric's direction is the other one.
    """
    told = suspicious(metric, outputs, labels)
    if told is None:
        return []
    if suspicious(replace(metric, higher_is_better=not metric.higher_is_better), outputs, labels) is None:
        better = "higher" if metric.higher_is_better else "lower"
        raise DataError(
            f"metric {metric.name} is taken to be better when {better}, but shuffled labels change it that way: give the "
            f"callable the attribute higher_is_better = {not metric.higher_is_better}"
        )
    raise DataError(told)


def _behaviour(
    metric: Metric, accuracy: float, outputs: Stored, reference: Stored, labels: Sequence[Any]
) -> dict[str, Any] | None:
    """How the answers of a classifier changed; None where labels are no classes: what the metric counts says whether they
    are."""
    found = behaviour(outputs, reference, labels) if metric.against == "labels" else None
    if found is None:
        return None
    right = [
        int(np.argmax(given[0])) == int(np.asarray(label).reshape(-1)[0])
        for given, label in zip(reference, labels, strict=True)
    ]
    return found.to_dict() if metric.name in ("top1", "top5") or np.isclose(np.mean(right), accuracy) else None


def _looks(splits: Splits, part: Part, seed: int) -> list[tuple[int, ...]]:
    """The positions of a part in the portions in which they are run: those of the search in two, at random, for the source may
    have its classes one after another."""
    positions = np.asarray(getattr(splits, part))
    if part != "search":
        return [tuple(positions.tolist())]
    first = round(_LOOK * len(positions))
    order = np.random.default_rng(seed).permutation(positions)
    return [tuple(sorted(p.tolist())) for p in (order[:first], order[first:]) if len(p)]


def _answers(
    model: str | None, setup: Setup, splits: Splits, part: Part, progress: Progress
) -> tuple[Stored, list[Any]]:
    outputs, labels = [], []
    for given, label in _run(model, setup, splits, part, progress):
        outputs.append(given)
        labels.append(label)
    return outputs, labels


def _runs(path: str, setup: Setup, splits: Splits) -> Callable[[], object]:
    """One run of a file on the first sample for calibration."""
    session = open_model(path)
    source, (faced,), _ = samples_for_all(
        {"the model": session},
        Selected(setup.data, splits.calibration[:1]),
        limit=1,
        preprocess=setup.preprocess,
        purpose="timing",
        outputs=False,
    )
    return faced.timed(next(iter(source.feeds())))


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.iterdir() if p.name.startswith((MODEL, FLOAT)))
