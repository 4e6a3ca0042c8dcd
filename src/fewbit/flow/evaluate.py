"""Evaluate a model with a task metric, next to a baseline on the same samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbit.errors import RecipeError
from fewbit.flow.faces import same_inputs, samples_for_all
from fewbit.flow.opening import ImportOptions, on_disk, open_models
from fewbit.measure.metrics import Metric, resolve_metric
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.session import Session
from fewbit.runtimes.table import open_model


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """The metric of a model, and of the baseline if there is one.

    change: value - baseline. lost: how much worse than the baseline, positive is worse, in the metric's own unit. notes: in
    what the two models, or the samples, have other names or layouts.
    """

    metric: str
    value: float
    baseline: float | None
    higher_is_better: bool
    points: bool
    samples: int
    seconds: float
    notes: Sequence[str] = ()

    @property
    def change(self) -> float | None:
        return None if self.baseline is None else self.value - self.baseline

    @property
    def lost(self) -> float | None:
        if self.change is None:
            return None
        return -self.change if self.higher_is_better else self.change

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "value": self.value,
            "baseline": self.baseline,
            "change": self.change,
            "lost": self.lost,
            "higher_is_better": self.higher_is_better,
            "points": self.points,
            "samples": self.samples,
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


def evaluate(
    model: str | Path | Any,
    data: Any,
    metric: str | Metric | Callable[..., Any],
    *,
    baseline: str | Path | Any = None,
    limit: int | None = None,
    preprocess: str | None = None,
    threads: int = 0,
    progress: Progress = SILENT,
) -> EvaluateResult:
    """Run a model over labelled samples and compute a metric.

    Args:
        model: path of a model file (ONNX, LiteRT), or a model in memory, float or quantized; a PyTorch module by way of
            `fewbit.load`. What a LiteRT file stores as integers is seen in real numbers.
        data: labelled samples (docs/data.md).
        metric: a built-in name, `FILE.py:NAME(...)`, or a callable (outputs, labels) -> value.
        baseline: a float model, of any format, to evaluate on the same samples; metrics of fidelity compare with its outputs.
        limit: use the first so many samples.
        threads: of the runtime, 0 for its own choice.

    Raises:
        InputError: wrong model, data, labels or metric.
    """
    started = time.perf_counter()
    chosen = resolve_metric(metric)
    if chosen.against == "baseline" and baseline is None:
        raise RecipeError(f"metric {chosen.name} compares with the float model: give --baseline")
    model, baseline = open_models([model, baseline], ImportOptions(), data, to_run=True)
    sessions: dict[str, Session] = {}
    for label, opened in (("the model", model), ("the baseline", baseline)):
        if opened is not None:
            with on_disk(opened) as path:
                sessions[label] = open_model(path, threads=threads)
    source, (session, *others), notes = samples_for_all(
        sessions,
        data,
        limit=limit,
        preprocess=preprocess,
        purpose="evaluation",
        outputs=not same_inputs([*sessions.values()]),  # a metric reads those that it knows
    )
    reference = others[0] if others else None
    outputs, real, labels = [], [], []
    with progress.task("evaluating", source.count) as advance:
        for sample in source:
            outputs.append(session.run(sample.feed))
            if reference is not None:
                real.append(reference.run(sample.feed))
            labels.append(sample.label)
            advance(1)
    if chosen.against == "baseline":
        value, base = chosen(outputs, real), None
    else:
        value = chosen(outputs, labels)
        base = chosen(real, labels) if reference is not None else None
    return EvaluateResult(
        chosen.name,
        value,
        base,
        chosen.higher_is_better,
        chosen.points,
        len(outputs),
        time.perf_counter() - started,
        notes,
    )
