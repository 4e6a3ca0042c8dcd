"""Task metrics: one file each, and one line in the table.

A metric takes `outputs`, the lists of arrays that the runtime gave for some samples, and `labels`, what the source
yielded with them. Metrics that compare with the float model get its outputs as labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.callables import call_user_code, has_arguments, is_callable_text, load_callable
from fewbit.errors import DataError, RecipeError
from fewbit.measure.metrics.metric import Labels, Metric, Outputs

__all__ = ["METRICS", "Labels", "Metric", "Outputs", "resolve_metric"]

METRICS: dict[str, str] = {
    "top1": "fewbit.measure.metrics.topk:TOP1",
    "top5": "fewbit.measure.metrics.topk:TOP5",
    "auc": "fewbit.measure.metrics.auc:AUC",
    "spearman": "fewbit.measure.metrics.spearman:SPEARMAN",
    "rmse": "fewbit.measure.metrics.rmse:RMSE",
    "perplexity": "fewbit.measure.metrics.perplexity:PERPLEXITY",
    "cer": "fewbit.measure.metrics.edit_distance:CER",
    "wer": "fewbit.measure.metrics.edit_distance:WER",
    "map": "fewbit.measure.metrics.coco_map:MAP",
    "sqnr": "fewbit.measure.metrics.fidelity:SQNR",
    "cosine": "fewbit.measure.metrics.fidelity:COSINE",
    "agreement": "fewbit.measure.metrics.fidelity:AGREEMENT",
}


def resolve_metric(metric: str | Metric | Callable[..., Any]) -> Metric:
    """A metric by its name, as FILE.py:NAME or FILE.py:NAME("literal"), or from a callable.

    A callable takes (outputs, labels) and gives a number, or one number a sample (their mean is the metric). It may have
    the attribute `higher_is_better`, or be a method of an object that has it.

    Raises:
        RecipeError: unknown name; the message lists them.
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        return _user_metric(metric, getattr(metric, "__name__", "metric"))
    if metric.lower() in METRICS:
        module, name = METRICS[metric.lower()].split(":")
        found = getattr(import_module(module), name)
        assert isinstance(found, Metric)
        return found
    if is_callable_text(metric):
        function = load_callable(metric)
        if has_arguments(metric):  # a function that makes the metric
            function = call_user_code(function, metric)
            if not callable(function):
                raise RecipeError(f"metric {metric} must give a callable (outputs, labels) -> value")
        return _user_metric(function, _short(metric))
    close = get_close_matches(metric.lower(), METRICS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise RecipeError(f"metric {metric!r} does not exist: {hint}use {', '.join(METRICS)} or FILE.py:NAME")


def _short(text: str) -> str:
    """FILE.py:NAME without the file."""
    return text.partition(".py:")[2] or text


def _user_metric(function: Callable[..., Any], name: str) -> Metric:
    def compute(outputs: Sequence[Outputs], labels: Sequence[Any]) -> float:
        return float(call(outputs, labels).mean())

    def call(outputs: Sequence[Outputs], labels: Sequence[Any]) -> NDArray[np.float64]:
        value = np.asarray(call_user_code(lambda: function(outputs, labels), name), np.float64)
        if value.size == 0:
            raise DataError(f"metric {name} gave nothing")
        return value

    def each(outputs: Sequence[Outputs], labels: Sequence[Any]) -> NDArray[np.float64] | None:
        value = call(outputs, labels)
        return value if value.shape == (len(outputs),) else None

    owner = getattr(function, "__self__", None)  # of a method, whose object may say it
    higher = getattr(function, "higher_is_better", getattr(owner, "higher_is_better", True))
    return Metric(name, compute, higher_is_better=bool(higher), each=each)
