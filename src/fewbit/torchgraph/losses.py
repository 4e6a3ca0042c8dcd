"""How far the outputs of a model are from those of its float original: what distillation makes small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fewbit.errors import DataError
from fewbit.graph.answers import decisions, next_tokens, squashed_outputs
from fewbit.graph.hub import Hub

Loss = Callable[[dict[str, Tensor], dict[str, Tensor], list[Any]], Tensor]
"""(outputs, outputs of the float model, labels of the samples or None) → one number to make small."""

_TINY = torch.finfo(torch.float32).tiny
_SURE = 2.0**-24  # float32 holds nothing between this far below 1 and 1


class Distillation:
    """The loss of knowledge distillation (Hinton et al. 2015, equation 1, temperature 1), the mean over outputs.

    Scores whose highest is the answer, those of the next token, and probabilities that a Softmax or Sigmoid makes: the
    Kullback-Leibler divergence of the model's distribution from the float model's, in nats. Other outputs: the squared error
    over the mean square of the float output.

    Args:
        power: output → the mean square of what the float model gives there, over all samples.
    """

    def __init__(self, hub: Hub, power: Mapping[str, float]) -> None:
        squashed, scores = squashed_outputs(hub), decisions(hub) | next_tokens(hub).keys()
        self._losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
        for output in hub.outputs:
            name = output.name
            if name not in power:
                continue  # whole numbers: they have no gradients
            if name in squashed:
                axis = squashed[name].axis
                self._losses[name] = _binary if squashed[name].kind == "sigmoid" else _probabilities(axis)
            else:
                self._losses[name] = _scores if name in scores else _squared(power[name])

    def __call__(self, outputs: dict[str, Tensor], targets: dict[str, Tensor], labels: list[Any]) -> Tensor:
        found = [self._losses[name](y, targets[name]) for name, y in outputs.items() if name in self._losses]
        return torch.stack(found).mean()


def _scores(outputs: Tensor, targets: Tensor) -> Tensor:
    rows = outputs.numel() // outputs.shape[-1]
    wanted = functional.log_softmax(targets, -1)
    return functional.kl_div(functional.log_softmax(outputs, -1), wanted, reduction="sum", log_target=True) / rows


def _probabilities(axis: int) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        difference = targets.clamp_min(_TINY).log() - outputs.clamp_min(_TINY).log()
        return (targets * difference).sum(axis).mean()

    return loss


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    def entropy(p: Tensor) -> Tensor:
        return functional.binary_cross_entropy(p.clamp(_TINY, 1.0 - _SURE), targets)

    return entropy(outputs) - entropy(targets)


def _squared(power: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, targets: functional.mse_loss(outputs, targets) / max(power, _TINY)


def checked(loss: Loss) -> Callable[[Mapping[str, Tensor], Mapping[str, Tensor], list[Any]], Tensor]:
    """A user's loss whose result is one number, or an error that says what it gave."""

    def call(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], labels: list[Any]) -> Tensor:
        value = loss(dict(outputs), dict(targets), labels)
        if not isinstance(value, Tensor) or value.numel() != 1 or (torch.is_grad_enabled() and not value.requires_grad):
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise DataError(f"the loss must give one number as a tensor with gradients of the outputs, not {shape}")
        return value.reshape(())

    return call
