"""Quantize a PyTorch module.

python examples/pytorch.py [FOLDER]          (needs the extra: pip install 'fewbit[torch]')
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fewbit


class Net(nn.Module):
    """Your own module goes here."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU())
        self.classifier = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": self.classifier(self.features(image).mean((2, 3)))}


def main(folder: Path) -> None:
    torch.manual_seed(0)
    module = Net()
    # Samples under the names of forward's arguments, as numpy arrays; real ones go here. The first is the example input.
    samples = {"image": np.random.default_rng(0).standard_normal((32, 3, 32, 32)).astype(np.float32)}
    result = fewbit.quantize(module, samples, "int8", out=folder / "net-int8.onnx")
    assert result.verification is not None  # there is one unless it was asked not to verify
    print(f"{result.verification.outputs[0].name}: {result.verification.outputs[0].sqnr:.1f} dB against the module")
    for name, node in result.plan.nodes.items():
        print(f"  {name} ({node.op}): {node.form}")

    # The float model is a hub like any other, and can be compared, evaluated and timed.
    hub = fewbit.load(module, example_inputs=samples["image"][:1])
    scored = fewbit.evaluate(folder / "net-int8.onnx", samples, "agreement", baseline=hub)
    print(f"the same class as in float for {scored.value:.0%} of {scored.samples} samples")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
