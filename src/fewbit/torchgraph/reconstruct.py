"""Block-wise reconstruction: block by block, what a block gives is drawn to what it gives in float (BRECQ, Li et al. 2021).

The roundings of a block's weights are learned together (`soft_rounding`), with its activation steps and biases, to make the
squared error of the block's outputs small (BRECQ, equation 10, without the Fisher information). What comes in is what the
quantized blocks before give; half of it, and half of the activations inside, are left as they are in float, drawn anew for
every update, where a block has activations of fewer than 8 bits (QDrop, Wei et al. 2022, section 4).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewbit.graph.blocks import Block, blocks
from fewbit.graph.reads import values_read
from fewbit.torchgraph.losses import Loss
from fewbit.torchgraph.module import GraphModule, to_torch
from fewbit.torchgraph.quantized import QuantizedGraph
from fewbit.torchgraph.rates import bias_size, cosine
from fewbit.torchgraph.samples import Samples
from fewbit.torchgraph.soft_rounding import SoftRounding, exponent

_REAL, _QUANTIZED = "float ", "quantized "
"""Before the name of a value: what the float model and what the quantized one makes there, in `Samples`."""

# Bits of activations whose error is small beside that of the weights: where a block has no fewer, dropping takes half as much
# time again and costs a little (the fifth block of ResNet-20 at 2 bits, 400 updates: 0.0460, without 0.0447).
_WIDE = 8
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True)
class ReconstructionRates:
    """Learning rates of Adam.

    rounding: of v. steps: of scales and offsets, relative to where they began. biases: relative to a layer's biases.
    undecided: weight of the regularizer, a mean over weights, beside the error in parts of what it was before.
    drop: the share of inputs and activations that are left in float; that of the paper.

    Measured on the fifth block of ResNet-20 at 2 bits in 400 updates without drop (error at the start 0.0499, with weights in
    float 0.038): a weight of 0.5, 2 or 8 at a rate of 0.02 ends at 0.0500, 0.0505 and 0.0462, for many weights are still
    undecided and then fall to either side; 30 at a rate of 0.03, 0.05 or 0.1 at 0.0447, 0.0442 and 0.0433.
    """

    rounding: float = 0.1
    steps: float = 1e-3
    biases: float = 1e-3
    undecided: float = 30.0
    drop: float = 0.5


class Reconstructor:
    """Reconstructs the blocks of a `QuantizedGraph`, first to last.

    errors: of the outputs of each block that is done, on held-back samples before and after, in parts of the mean square of
        the float outputs; the loss, where they are those of the graph. notes: what went wrong.

    Args:
        samples: with the inputs of the graph; values between blocks are kept there while they are needed.
        train, held: indices of samples. A block keeps what it learned only if its error on the held-back ones became smaller.
        iterations: updates for each block.
        loss: of the outputs of the graph.
    """

    def __init__(
        self,
        model: QuantizedGraph,
        samples: Samples,
        train: Sequence[int],
        held: Sequence[int],
        *,
        iterations: int,
        loss: Loss,
        batch: int,
        rates: ReconstructionRates,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.samples = model, samples
        self.train, self.held = list(train), list(held)
        self.iterations, self.batch, self.rates, self.seed, self.device = iterations, batch, rates, seed, device
        self.loss = loss
        self.real: GraphModule = to_torch(model.hub, trainable=False).to(device)
        self.blocks = blocks(model.hub, model.layers)
        self.errors: list[tuple[float, float]] = []
        self.notes: list[str] = []
        self._drops = False

    def run(
        self,
        *,
        deadline: float = math.inf,
        advance: Callable[[int], None] = lambda _: None,
        after_block: Callable[[], None] = lambda: None,
    ) -> None:
        """Reconstruct the blocks that are left, until the deadline of `time.monotonic` comes."""
        made: list[str] = []
        for index, block in enumerate(self.blocks):
            feeds = self._feeds(block, made)
            self._keep(self.real, _REAL, block, feeds)
            if index >= len(self.errors):
                if not self._block(index, block, feeds, deadline, advance):
                    break
                after_block()
            self._keep(self.model.graph, _QUANTIZED, block, feeds)
            made = self._drop([*made, *block.outputs], index)
        self._drop({n for block in self.blocks for n in block.outputs}, len(self.blocks))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Counters and tensors from which `restore` goes on with the same result."""
        return {"errors": self.errors, "iterations": self.iterations}, dict(self.model.state_dict())

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.model.load_state_dict({name: value.to(self.device) for name, value in tensors.items()})
        self.errors = [(before, after) for before, after in state["errors"]]
        self.iterations = state["iterations"]

    def _block(
        self, index: int, block: Block, feeds: Sequence[str], deadline: float, advance: Callable[[int], None]
    ) -> bool:
        """Learn one block; what it was comes back where that was better. False where the time did not suffice."""
        before = self._error(block, feeds)
        was = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        finished = True
        with self._learning(block) as (groups, soft), _seeded((self.seed, index)):
            optimizer = torch.optim.Adam(groups)
            starts = [group["lr"] for group in groups]
            order = self._order(index)
            for step in range(self.iterations):
                if time.monotonic() > deadline:
                    finished = False
                    break
                done = step / self.iterations
                for group, rate in zip(optimizer.param_groups, starts, strict=True):
                    group["lr"] = cosine(rate, done) if group["falls"] else rate
                optimizer.zero_grad(set_to_none=True)
                if not math.isfinite(self._gradients(block, feeds, soft, next(order), done, before)):
                    self.notes.append(f"the error of block {index + 1} was not a finite number: it is left as it was")
                    break
                optimizer.step()
                advance(1)
        after = self._error(block, feeds)
        if not finished or not after < before:
            self.model.load_state_dict(was)
            after = before
        if finished:
            self.errors.append((before, after))
        return finished

    def _gradients(
        self,
        block: Block,
        feeds: Sequence[str],
        soft: Sequence[SoftRounding],
        indices: Sequence[int],
        done: float,
        unit: float,
    ) -> float:
        """The loss of a batch, in parts of the error at the start, with its gradients."""
        total = 0.0
        for part in self.samples.parts(indices, self.batch):
            given, wanted, labels = self._values(block, feeds, part, mixed=self._drops)
            made = self.model.graph.run(given, block.outputs)
            loss = self._loss(block, made, wanted, labels) * (len(part) / len(indices) / max(unit, _TINY))
            loss.backward()
            total += float(loss.detach())
        count = sum(rounding.v.numel() for rounding in soft)
        undecided = torch.stack([rounding.undecided(exponent(done)) for rounding in soft]).sum() / count
        (undecided * self.rates.undecided).backward()
        return total

    def _error(self, block: Block, feeds: Sequence[str]) -> float:
        """The error of a block's outputs on the held-back samples, rounded as it is exported, from quantized inputs."""
        total = 0.0
        with torch.no_grad():
            for part in self.samples.parts(self.held, self.batch):
                given, wanted, labels = self._values(block, feeds, part, mixed=False)
                total += float(self._loss(block, self.model.graph.run(given, block.outputs), wanted, labels)) * len(
                    part
                )
        return total / len(self.held)

    def _loss(self, block: Block, made: Mapping[str, Any], wanted: Mapping[str, Tensor], labels: list[Any]) -> Tensor:
        """Σ (made − wanted)² / Σ wanted², the mean over outputs with gradients; the loss of the graph's outputs where the
        block gives all of them."""
        if set(self.model.graph.output_names) <= set(block.outputs):
            names = self.model.graph.output_names
            return self.loss({n: made[n] for n in names}, {n: wanted[n] for n in names}, labels)
        real = {n: y for n, y in wanted.items() if y.is_floating_point()}
        parts = [(made[n] - y).square().mean() / y.square().mean().clamp_min(_TINY) for n, y in real.items()]
        return torch.stack(parts).mean()

    @contextmanager
    def _learning(self, block: Block) -> Iterator[tuple[list[dict[str, Any]], list[SoftRounding]]]:
        """What of a block is learned, with its rates; at the end its weights are rounded."""
        weights, layers = self.model.graph.weights(), [self.model.layers[name] for name in block.layers]
        trained = {n: p.requires_grad for n, p in self.model.named_parameters()}
        self.model.requires_grad_(False)
        roundings: dict[str, SoftRounding] = {}
        rounding, steps, groups = [], {}, []
        for layer in layers:
            name, scaled = layer.weight.name, layer.quantize
            if name not in roundings:
                roundings[name] = soft = SoftRounding(scaled.units(weights[name].detach()), scaled.quantize.limits())
                scaled.soft = soft
                rounding.append(soft.v)
                steps[id(scaled.quantize.step)] = scaled.quantize.step
            if layer.bias is not None:
                bias = weights[layer.bias].requires_grad_(True)
                groups.append({"params": [bias], "lr": self.rates.biases * bias_size(self.model, layer), "falls": True})
        inside = {
            name for node in self.model.hub.nodes() if str(node.name) in set(block.nodes) for name in values_read(node)
        }
        edges = [self.model.edges[name] for name in sorted(inside & self.model.edges.keys())]
        self._drops = any(edge.quantize.spec.dtype.bits < _WIDE for edge in edges)
        for edge in edges:
            edge.drop = self.rates.drop if self._drops else 0.0
            for p in (edge.quantize.step, edge.quantize.offset):
                if p is not None:
                    steps[id(p)] = p
        for p in steps.values():
            p.requires_grad_(True)
        groups += [{"params": rounding, "lr": self.rates.rounding, "falls": False}]
        groups += [{"params": list(steps.values()), "lr": self.rates.steps, "falls": True}]
        try:
            yield groups, list(roundings.values())
        finally:
            for edge in edges:
                edge.drop = 0.0
            for layer in layers:
                self.model.settle(layer)
            for n, p in self.model.named_parameters():
                p.requires_grad_(trained[n])
                p.grad = None

    def _values(
        self, block: Block, feeds: Sequence[str], part: Sequence[int], *, mixed: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Any]]:
        """What a block is fed, mixed with what it would be fed in float or not, and what it should give."""
        inputs = set(self.model.graph.input_names)
        between = [n for n in feeds if n not in inputs]
        names = (
            [n for n in feeds if n in inputs] + [_QUANTIZED + n for n in between] + [_REAL + n for n in block.outputs]
        )
        names += [_REAL + n for n in between] if mixed else []
        values, labels = self.samples.read(names, part, self.device)
        given = {n: values[n] for n in feeds if n in inputs}
        for n in between:
            x = values[_QUANTIZED + n]
            if mixed and x.is_floating_point():
                x = torch.where(torch.rand_like(x) < self.rates.drop, values[_REAL + n], x)
            given[n] = x
        return given, {n: values[_REAL + n] for n in block.outputs}, labels

    def _keep(self, graph: GraphModule, prefix: str, block: Block, feeds: Sequence[str]) -> None:
        """Keep what a block gives in float or quantized, for all samples."""
        inputs = set(self.model.graph.input_names)
        keys = {n: n if n in inputs else prefix + n for n in feeds}
        with torch.no_grad():
            for part in self.samples.parts([*self.train, *self.held], self.batch):
                values, _ = self.samples.read(list(keys.values()), part, self.device)
                made = graph.run({n: values[key] for n, key in keys.items()}, block.outputs)
                for name, value in made.items():
                    rows = value.cpu().numpy()  # type: ignore[union-attr]
                    for row, index in enumerate(part):
                        self.samples.set(
                            prefix + name, index, rows[row : row + 1].copy() if self.samples.stacked else rows
                        )

    def _drop(self, made: Iterable[str], index: int) -> list[str]:
        """Let go of what no block after the one at `index` reads; what is left."""
        later = {n for block in self.blocks[index + 1 :] for n in block.inputs}
        gone = [n for n in made if n not in later]
        self.samples.drop([prefix + n for n in gone for prefix in (_REAL, _QUANTIZED)])
        return [n for n in made if n in later]

    def _feeds(self, block: Block, made: Sequence[str]) -> list[str]:
        """What a block is computed from: kept values, and inputs of the graph, those of its masks and positions included."""
        hub, found, pending = self.model.hub, set(), list(block.inputs)
        inputs, done = set(self.model.graph.input_names), set()
        while pending:
            name = pending.pop()
            if name in done:
                continue
            done.add(name)
            if name in made or name in inputs:
                found.add(name)
                continue
            producer = hub.value(name).producer()
            if producer is not None:
                pending += values_read(producer)
        return sorted(found)

    def _order(self, index: int) -> Iterator[list[int]]:
        """Batches of the training samples, shuffled anew whenever they are used up."""
        random, size = np.random.default_rng((self.seed, index)), min(self.batch, len(self.train))
        while True:
            order = random.permutation(self.train).tolist()
            for start in range(0, len(order) - size + 1, size):
                yield order[start : start + size]


@contextmanager
def _seeded(seed: tuple[int, int]) -> Iterator[None]:
    """torch's random numbers from a seed of their own for a while."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**62)))
        yield
