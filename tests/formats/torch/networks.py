"""Small networks, and files of one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fewbit.formats.torch.quiet import quiet
from fewbit.graph.hub import Hub
from tests.graph.build import run

RELATIVE = 1e-5


class Block(nn.Module):
    """Two convolutions around which the input goes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 1)
        self.act = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv2(self.act(self.bn1(self.conv1(x)))) + x)


class Residual(nn.Module):
    """A CNN in the manner of torchvision's, with a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.layer1 = nn.Sequential(Block(8), Block(8))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 5)
        self.register_buffer("offset", torch.linspace(0, 1, 5))

    def forward(self, image: torch.Tensor) -> dict[str, Any]:
        features = self.layer1(self.stem(image)).mean((2, 3))
        return {"scores": self.fc(self.dropout(features)) + self.offset, "inner": (features, features * 2)}


class Language(nn.Module):
    """A transformer encoder over token ids and a mask, whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5000, 64)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(64, 4, 96, batch_first=True), 2, enable_nested_tensor=False
        )
        self.head = nn.Linear(64, 5000, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(ids), src_key_padding_mask=mask))


class Recurrent(nn.Module):
    """An LSTM and a GRU one after the other, with a list of inputs and a tuple of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(16, 5, batch_first=True)

    def forward(self, parts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        between, _ = self.lstm(torch.cat(parts, 1))
        every, last = self.gru(between)
        return every, last


class Small(nn.Module):
    """Two linear layers and a batch normalization; `width` is what a factory can be given."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width)
        self.second = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.norm(self.first(x))))


def trained(module: nn.Module) -> nn.Module:
    """The module in evaluation mode with random numbers, also where a new one has zeros and ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)
    return module.eval()


def image(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, 17, 17, generator=torch.Generator().manual_seed(batch))


def ids(batch: int, length: int) -> torch.Tensor:
    return torch.arange(batch * length).reshape(batch, length) % 7 // 3


def rows(count: int) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(count))


def agree(hub: Hub, module: Any, *arguments: Any) -> None:
    """The hub computes in ONNX Runtime what the module does, within 1e-5 of the largest number of each output."""
    from torch.utils import _pytree as tree

    with torch.no_grad():
        expected = tree.tree_leaves(module(*arguments))
    leaves = [leaf.numpy() for leaf in tree.tree_leaves(arguments)]
    got = run(hub, dict(zip([info.name for info in hub.inputs], leaves, strict=True)))
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        array = other.numpy()
        assert one.shape == array.shape and one.dtype == array.dtype
        assert np.abs(one - array).max() <= RELATIVE * np.abs(array).max()


def save_all(folder: Path) -> nn.Module:
    """A `Small` in every kind of file that there is."""
    from safetensors.torch import save_file

    module, example = trained(Small()), rows(2)
    with quiet():
        program = torch.export.export(module, (example,), dynamic_shapes={"x": {0: torch.export.Dim("rows")}})
        torch.export.save(program, folder / "program.pt2")
        torch.jit.script(module).save(str(folder / "scripted.pt"))
        torch.jit.trace(module, (example,)).save(str(folder / "traced.pt"))
    torch.save(module.state_dict(), folder / "weights.pth")
    torch.save(module.state_dict(), folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}}, folder / "run.pt"
    )
    torch.save(module, folder / "whole.pt")
    save_file(module.state_dict(), folder / "weights.safetensors")
    return module
