"""Perplexity of next-token scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.errors import DataError
from fewbit.measure.metrics.metric import Labels, Metric, Outputs

IGNORED = -100  # the label of positions that do not count, as in PyTorch's cross entropy


def perplexity(outputs: Sequence[Outputs], labels: Labels) -> float:
    """exp of the mean negative log likelihood.

    The first output holds logits [..., positions, vocabulary]; a label holds the token that each position should
    predict, [..., positions], with -100 where none counts.
    """
    loss, tokens = 0.0, 0
    for (first, *_), label in zip(outputs, labels, strict=True):
        logits = first.reshape(-1, first.shape[-1]).astype(np.float64)
        wanted = np.asarray(label).reshape(-1)
        if len(wanted) != len(logits):
            raise DataError(f"perplexity: {len(logits)} positions of output and {len(wanted)} labels in a sample")
        keep = wanted != IGNORED
        logits, wanted = logits[keep], wanted[keep]
        top = logits.max(-1)
        total = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
        loss += float((total - logits[np.arange(len(wanted)), wanted]).sum())
        tokens += len(wanted)
    return float(np.exp(loss / tokens)) if tokens else float("nan")


PERPLEXITY = Metric("perplexity", perplexity, higher_is_better=False)
