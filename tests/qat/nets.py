"""Small modules with what real ones have: batch normalization, depthwise layers, nested outputs, constants as arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.depthwise = nn.Conv2d(channels, 8, 3, padding=1, groups=channels)
        self.drop = nn.Dropout()
        self.head = nn.Linear(8, 4)

    def features(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return torch.relu(self.depthwise(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.drop(self.features(x)))


class Named(Net):
    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        return {"scores": self.head(features), "parts": (features, None)}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(6, 8)

    def forward(self, a: Tensor, b: Tensor, factor: float = 1.0) -> Tensor:
        return torch.relu(self.one(a)) + factor * torch.relu(self.two(b))
