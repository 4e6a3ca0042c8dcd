"""Distillation: the quantized network learns, end to end, to give what the float network gives. No labels are needed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewbit.errors import ModelError
from fewbit.torchgraph.fake_quantize import FakeQuantize
from fewbit.torchgraph.losses import Loss
from fewbit.torchgraph.quantized import QuantizedGraph
from fewbit.torchgraph.rates import bias_size, cosine
from fewbit.torchgraph.samples import Samples

_PATIENCE = 0.25  # of the time
_OVER = "the time is used up"

TARGET = "target of "
"""Before the name of an output: the name under which `Samples` keep what the float model gave there."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates of Adam at the start; a cosine takes them to zero (Loshchilov and Hutter 2017, equation 5).

    weights: in steps of the weight's own grid an update, so that one figure suits all layers and widths.
    steps: of scales and offsets, relative to where they began. biases: relative to the mean size of a layer's biases.

    Measured on ResNet-20 at 2 bits, two epochs of 7,200 images in batches of 32 after its blocks: 3e-3 for weights lowers the
    loss from 0.101 to 0.0695, 1e-2 to 0.0643, and at 2.5e-2 it stands at 0.20 after the first, all with 1e-3 for steps and
    biases. That is too much where samples are few: EfficientNet-Lite0 at W4A8 with 180 images went from 0.126 to 0.161 in its
    first epoch of 11 updates, and with 3e-4 to 0.114.
    """

    weights: float = 1e-2
    steps: float = 3e-4
    biases: float = 3e-4


@dataclass
class Course:
    """How training went, and its best state so far.

    epoch: epochs done. done: the part of the schedule that is. losses: on the held-back samples, of the start, then after each
    epoch. best: the state dict at the least of them; best_at: the part of the schedule that was done then. stopped: why it
    ended early, or "".
    """

    epoch: int = 0
    done: float = 0.0
    losses: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_at: float = 0.0
    stopped: str = ""

    def note(self, loss: float, model: nn.Module) -> None:
        """Take down a loss, and the state if it is the best so far."""
        if not self.losses or loss < min(self.losses):
            self.best = {name: value.detach().clone() for name, value in model.state_dict().items()}
            self.best_at = self.done
        self.losses.append(loss)


class _Clock:
    """The part of a schedule that is done, by the time until a deadline of `time.monotonic`; `before` of it was already."""

    def __init__(self, deadline: float, before: float) -> None:
        self.deadline, self._before, self._begun = deadline, before, time.monotonic()

    def done(self) -> float:
        gone, whole = time.monotonic() - self._begun, max(self.deadline - self._begun, 1e-9)
        return self._before + (1.0 - self._before) * min(gone / whole, 1.0)


class Distiller:
    """Trains a `QuantizedGraph` on samples with targets.

    Args:
        samples: with the inputs and, as `TARGET` + output, the outputs of the float model.
        train, held: indices of samples.
        epochs: None to train until the deadline of `run`, by whose clock the schedule then goes: however fast the machine
            turns out to be, the rates fall to zero in time.
        patience: epochs without a better loss on the held-back samples after which it ends; by the clock a quarter of it.
    """

    def __init__(
        self,
        model: QuantizedGraph,
        samples: Samples,
        train: Sequence[int],
        held: Sequence[int],
        loss: Loss,
        *,
        epochs: int | None,
        batch: int,
        rates: Rates,
        seed: int,
        patience: int,
        device: torch.device,
    ) -> None:
        self.model, self.samples, self.loss = model, samples, loss
        self.train, self.held = np.asarray(train), list(held)
        self.epochs, self.batch, self.seed, self.patience, self.device = epochs, batch, seed, patience, device
        self.optimizer = torch.optim.Adam(_groups(model, rates))
        self.starts = [group["lr"] for group in self.optimizer.param_groups]
        self.course = Course()
        self._names = list(model.graph.input_names)
        self._outputs = list(model.graph.output_names)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.batch)

    def evaluate(self) -> float:
        """The mean loss on the held-back samples."""
        total = 0.0
        with torch.no_grad():
            for part in self.samples.parts(self.held, self.batch):
                total += float(self._loss(part)) * len(part)
        return total / len(self.held)

    def look(self) -> None:
        """Take down the loss on the held-back samples of the state that the model is in, and go back to the best so far.

        Raises:
            ModelError: the loss before any training is not a finite number.
        """
        loss = self.evaluate()
        if not self.course.losses and not math.isfinite(loss):
            raise ModelError(
                f"the loss on the samples held back is {loss} before any training: nothing can be learned from it; mend "
                "the loss (--loss), or leave out samples on which the model overflows"
            )
        self.course.note(loss, self.model)
        self.model.load_state_dict(self.course.best)

    def run(
        self,
        *,
        deadline: float = math.inf,
        advance: Callable[[int], None] = lambda _: None,
        after_epoch: Callable[[Course], None] = lambda _: None,
    ) -> Course:
        """Train until the epochs are done, the deadline (of `time.monotonic`) comes, or nothing gets better.

        The model is left in its best state on the held-back samples, which may be the one that it came with.

        Raises:
            ModelError: the loss is no finite number before any training.
        """
        course = self.course
        if not course.losses:
            self.look()
        clock = _Clock(deadline, course.done)
        while (self.epochs is None or course.epoch < self.epochs) and not course.stopped:
            if self._epoch(clock, advance):
                course.epoch += 1
                course.done = self._done(0, clock)
                course.note(self.evaluate(), self.model)
                since = len(course.losses) - 1 - int(np.argmin(course.losses))
                if self.epochs is not None and since >= self.patience:
                    course.stopped = f"no better for {since} epochs"
                elif self.epochs is None and course.done - course.best_at >= _PATIENCE:
                    course.stopped = f"no better for a quarter of the time, {since} epochs"
                after_epoch(course)
        self.model.load_state_dict(course.best)
        return course

    def _done(self, step: int, clock: _Clock) -> float:
        """The part of the schedule that is done before an update of the epoch."""
        if self.epochs is None:
            return clock.done()
        return (self.course.epoch + step / self.steps_per_epoch) / self.epochs

    def rehearse(self, steps: int) -> None:
        """As many steps as are to be timed, without an update."""
        for part in [self.train[: self.batch].tolist()] * steps:
            self._gradients(part)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Counters, and tensors by name, from which `restore` goes on with the same result."""
        course = self.course
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in course.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
        state: dict[str, Any] = {
            "epochs": self.epochs,
            "epoch": course.epoch,
            "done": course.done,
            "best_at": course.best_at,
        }
        state |= {"losses": course.losses, "stopped": course.stopped}
        return state, tensors

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""

        def of(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v.to(self.device) for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(of("model."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in of("adam.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.epochs = state["epochs"]
        stopped = (
            "" if state["stopped"] == _OVER and state["done"] < 1.0 else state["stopped"]
        )  # there may be time again
        self.course = Course(
            state["epoch"], state["done"], list(state["losses"]), of("best."), state["best_at"], stopped
        )

    def _epoch(self, clock: _Clock, advance: Callable[[int], None]) -> bool:
        """One pass over the samples; False where it did not get to its end with a finite loss."""
        order = np.random.default_rng((self.seed, self.course.epoch)).permutation(self.train).tolist()
        for step, start in enumerate(range(0, len(order), self.batch)):
            if time.monotonic() > clock.deadline:
                self.course.stopped = _OVER
                return step > 0  # what was learned since the last look may be the best
            done = self._done(step, clock)
            for group, rate in zip(self.optimizer.param_groups, self.starts, strict=True):
                group["lr"] = cosine(rate, done)
            if not math.isfinite(self._step(order[start : start + self.batch])):
                self.course.stopped = "the loss was not a finite number"
                return False
            advance(1)
        return True

    def _step(self, indices: Sequence[int]) -> float:
        """One update."""
        total = self._gradients(indices)
        if math.isfinite(total):
            self.optimizer.step()
        return total

    def _gradients(self, indices: Sequence[int]) -> float:
        """The loss of a batch and its gradients; those of samples that cannot be joined add up."""
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in self.samples.parts(indices, self.batch):
            loss = self._loss(part) * (len(part) / len(indices))
            loss.backward()
            total += float(loss.detach())
        return total

    def _loss(self, part: Sequence[int]) -> Tensor:
        values, labels = self.samples.read([*self._names, *(TARGET + n for n in self._outputs)], part, self.device)
        outputs = self.model(**{name: values[name] for name in self._names})
        targets = {name: values[TARGET + name] for name in self._outputs}
        return self.loss(dict(zip(self._outputs, outputs, strict=True)), targets, labels)


def _groups(model: QuantizedGraph, rates: Rates) -> list[dict[str, object]]:
    """One group of parameters for each learning rate."""
    weights = model.graph.weights()
    groups: list[dict[str, object]] = []
    seen: set[str] = set()
    for layer in model.layers.values():
        if layer.weight.name not in seen:
            seen.add(layer.weight.name)
            step = float(layer.quantize.quantize.scale().detach().mean())
            if layer.quantize.factors is not None:
                step /= float(layer.quantize.factors.abs().mean())
            groups.append({"params": [weights[layer.weight.name]], "lr": rates.weights * step})
        if layer.bias is not None:
            groups.append({"params": [weights[layer.bias]], "lr": rates.biases * bias_size(model, layer)})
    learned = [m for m in model.modules() if isinstance(m, FakeQuantize)]
    steps = [p for m in learned for p in (m.step, m.offset) if p is not None]
    return [*groups, {"params": steps, "lr": rates.steps}]
