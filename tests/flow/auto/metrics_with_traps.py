"""Metrics that users might write: right, and in several ways wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def accuracy(outputs: Sequence[Any], labels: Sequence[Any]) -> float:
    return float(np.mean([given[0].argmax() == label for given, label in zip(outputs, labels, strict=True)]))


def nothing(outputs: Sequence[Any], labels: Sequence[Any]) -> float:
    return float("nan")


def error_rate(outputs: Sequence[Any], labels: Sequence[Any]) -> float:
    """Lower is better, and nothing says so."""
    return 1.0 - accuracy(outputs, labels)


def far_from_float(what: str, known: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
    """An accuracy that crashes, hangs or is not a number for outputs further from the float model's than float16 storage is.

    known: an .npz of true labels and the float model's outputs; the labels of samples are their positions in it.
    """
    with np.load(known) as stored:
        truth, real = stored["labels"], stored["outputs"]

    def metric(outputs: Sequence[Any], labels: Sequence[Any]) -> float:
        given = np.concatenate([first for first, *_ in outputs])
        nearest = (
            np.abs(given[:, None] - real[None]).max(-1).min(1)
        )  # labels may be shuffled, to see whether they matter
        if nearest.max() > 0.01 * np.abs(real).max():
            if what == "crash":
                os.abort()
            if what == "hang":
                time.sleep(600)
            return float("nan")
        return float(np.mean(given.argmax(1) == truth[list(labels)]))

    return metric
