"""Perplexity of next-token scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError
from fewbit.measure.metrics.metric import Labels, Metric, Outputs, mean_or_ratio

IGNORED = -100  # the label of positions that do not count, as in PyTorch's cross entropy


def losses(outputs: Sequence[Outputs], labels: Labels) -> NDArray[np.float64]:
    """The negative log likelihood of every sample and its number of tokens, [samples, 2].

    The first output holds logits [..., positions, vocabulary]; a label holds the token that each position should
    predict, [..., positions], with -100 where none counts. A sample is one unit: its tokens depend on each other.
    """
    parts = []
    for (first, *_), label in zip(outputs, labels, strict=True):
        logits = first.reshape(-1, first.shape[-1]).astype(np.float64)
        wanted = np.asarray(label).reshape(-1)
        if len(wanted) != len(logits):
            raise DataError(f"perplexity: {len(logits)} positions of output and {len(wanted)} labels in a sample")
        keep = wanted != IGNORED
        logits, wanted = logits[keep], wanted[keep]
        top = logits.max(-1)
        total = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
        parts.append(((total - logits[np.arange(len(wanted)), wanted]).sum(), len(wanted)))
    return np.array(parts, np.float64)


def exp_ratio(parts: NDArray[np.float64]) -> float:
    """exp of the loss a token, from [samples, 2]."""
    return float(np.exp(mean_or_ratio(parts)))


def perplexity(outputs: Sequence[Outputs], labels: Labels) -> float:
    """exp of the mean negative log likelihood of a token."""
    return exp_ratio(losses(outputs, labels))


PERPLEXITY = Metric("perplexity", perplexity, higher_is_better=False, each=losses, total=exp_ratio)
