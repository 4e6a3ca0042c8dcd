"""Train a network with its quantization simulated, in a training loop of one's own: a small CNN that reads handwritten digits.

python examples/qat_plain.py [FOLDER]

It prints accuracies in ONNX Runtime: of the float model, and with weights of 8 and 2 bits before and after the training.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import fewbit
import fewbit.torch

NARROW = {"weight": {"dtype": "int2", "granularity": "tensor"}, "activation": {"dtype": "uint8"}}
RECIPES = {"int8": "int8", "2-bit weights": {"name": "w2a8", "rules": [NARROW]}}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to train with, and others to judge by."""
    data = load_digits()
    images = torch.tensor(data.images[:, None] / 16, dtype=torch.float32)
    labels = torch.tensor(data.target)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    held, used = order[:600], order[600:]
    return images[used], labels[used], images[held], labels[held]


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> None:
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    model.eval()


def accuracy(path: Path, images: Tensor, labels: Tensor) -> float:
    session = onnxruntime.InferenceSession(path)
    (scores,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return float((scores.argmax(1) == labels.numpy()).mean())


def main(folder: Path) -> None:
    torch.manual_seed(0)
    images, labels, held_images, held_labels = digits()
    model = network()
    train(model, images, labels, epochs=12, rate=3e-3)
    with torch.no_grad():
        right = (model(held_images).argmax(1) == held_labels).float().mean()
    print(f"float: {right:.3f}")
    for name, recipe in RECIPES.items():
        prepared = fewbit.torch.prepare(model, images[:2], recipe, data=images[:128])
        before, after = folder / f"{name}-before.onnx", folder / f"{name}-after.onnx"
        fewbit.torch.export(prepared, before)
        train(prepared, images, labels, epochs=6, rate=2e-3)
        fewbit.torch.export(prepared, after)
        found = [accuracy(path, held_images, held_labels) for path in (before, after)]
        print(f"{name}: {found[0]:.3f} before training, {found[1]:.3f} after")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
