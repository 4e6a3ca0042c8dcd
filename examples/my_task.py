"""Samples and a metric of your own, from a Python file.

A name of this file goes wherever a source or a metric is asked for, and a call with literals is made on every pass:

    demo=$(python -c "import fewbit.demo; print(fewbit.demo.MODEL.parent)")
    fewbit quantize $demo/digits.onnx -o small.onnx --data 'examples/my_task.py:samples("calibration")'
    fewbit eval small.onnx --baseline $demo/digits.onnx \
        --eval 'examples/my_task.py:samples("evaluation", noise=0.1)' --metric examples/my_task.py:balanced_accuracy
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fewbit import demo


def samples(part: str, noise: float = 0.0) -> Iterator[tuple[dict[str, np.ndarray], Any]]:
    """(feed, label) one after another; a feed holds an array for each model input, with its batch axis.

    It is called anew for each pass, so random numbers start from a seed: both models then see the same pictures.
    """
    random = np.random.default_rng(0)
    arrays = np.load(demo.MODEL.parent / f"{part}.npz")
    labels = arrays["labels"] if "labels" in arrays else [None] * len(arrays["image"])
    for image, label in zip(arrays["image"], labels, strict=True):
        noisy = image.astype(np.float32) + noise * random.standard_normal(image.shape).astype(np.float32)
        yield {"image": noisy[None]}, label


def balanced_accuracy(outputs: Sequence[list[np.ndarray]], labels: Sequence[Any]) -> float:
    """The accuracy of each class, averaged over the classes: rare ones count as much as frequent ones."""
    wanted = np.asarray(labels)
    right = np.asarray([int(scores[0].argmax()) for scores in outputs]) == wanted
    return float(np.mean([right[wanted == kind].mean() for kind in np.unique(wanted)]))


balanced_accuracy.higher_is_better = True  # type: ignore[attr-defined]
