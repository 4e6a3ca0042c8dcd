"""What training on samples needs around the network: the device, threads, the float model's outputs, losses in the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbit.data import DataSource
from fewbit.errors import DataError, ModelError, RecipeError
from fewbit.graph.hub import Hub
from fewbit.graph.save import is_large
from fewbit.plan.plan import Plan
from fewbit.progress import Progress
from fewbit.runtimes.onnxruntime import Feed, OrtSession, open_session
from fewbit.torchgraph.distill import TARGET
from fewbit.torchgraph.losses import Distillation, Loss, checked
from fewbit.torchgraph.quantized import QuantizedGraph
from fewbit.torchgraph.samples import Samples, split, stackable

__all__ = ["device_for", "float_session", "gather", "keep", "loss_for", "prepare", "runtime_loss", "split", "threads"]

_DEVICES = ("auto", "cpu", "cuda")


def device_for(name: str) -> torch.device:
    """The device to train on.

    Raises:
        RecipeError: another name, or CUDA where there is none.
    """
    if name not in _DEVICES:
        raise RecipeError(f"device {name!r} does not exist; use {', '.join(_DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device cuda: torch finds no CUDA device here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch with so many threads, and with its deterministic kernels, for a while."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)


@contextmanager
def gather(hub: Hub, source: DataSource, memory: int, progress: Progress, runtime_threads: int) -> Iterator[Samples]:
    """The samples with what the float model gives for each in the runtime, run once.

    Raises:
        DataError: a sample for which the float model gives NaN or infinity.
    """
    session = float_session(hub, runtime_threads)
    samples = Samples(memory, stacked=stackable(hub))
    squares: dict[str, tuple[float, int]] = {}
    try:
        with progress.task("outputs of the float model", source.count) as advance:
            for feed, label in source:
                for name, array in keep(session, samples, feed, label).items():
                    total, count = squares.get(name, (0.0, 0))
                    squares[name] = total + float(np.square(array, dtype=np.float64).sum()), count + array.size
                advance(1)
        samples.check()
        samples.power = {name: total / max(count, 1) for name, (total, count) in squares.items()}
        yield samples
    finally:
        samples.close()


def float_session(hub: Hub, runtime_threads: int) -> OrtSession:
    """The float model in the runtime."""
    real: object = hub.path if is_large(hub.model) and hub.path is not None else hub.model
    return open_session(real, threads=runtime_threads)  # type: ignore[arg-type]


def keep(session: OrtSession, samples: Samples, feed: Feed, label: Any = None) -> dict[str, NDArray[Any]]:
    """Add a sample with what the float model gives for it; returns its float outputs.

    Raises:
        DataError: it gives NaN or infinity.
    """
    index = len(samples)
    outputs = dict(zip(session.outputs, session.run(feed), strict=True))
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"sample {index}: the float model gives NaN or infinity at output {name}; leave it out")
    samples.add(feed, label)
    for name, array in outputs.items():
        samples.set(TARGET + name, index, array)
    return {name: array for name, array in outputs.items() if array.dtype.kind == "f"}


def prepare(hub: Hub, plan: Plan, device: torch.device) -> QuantizedGraph:
    """The quantized network on a device.

    Raises:
        ModelError: the plan has nothing that can be learned.
    """
    graph = QuantizedGraph(hub, plan)
    if not graph.layers:
        raise ModelError(
            f"recipe {plan.recipe} leaves nothing to learn in this model: weights in a codebook or as floats have no steps"
        )
    return graph.to(device)


def loss_for(hub: Hub, samples: Samples, own: Loss | None) -> Loss:
    """Distillation, or the user's own loss."""
    return Distillation(hub, samples.power) if own is None else checked(own)


def runtime_loss(loss: Loss, session: OrtSession, samples: Samples, held: Sequence[int]) -> float:
    """The mean loss of an exported model in the runtime."""
    total = 0.0
    with torch.no_grad():
        for index in held:
            values, labels = samples.read([*session.inputs, *(TARGET + n for n in session.outputs)], [index])
            total += float(loss(_outputs(session, values), _targets(session, values), labels))
    return total / len(held)


def _outputs(session: OrtSession, values: dict[str, Tensor]) -> dict[str, Tensor]:
    given = session.run({name: values[name].numpy() for name in session.inputs})
    return {name: torch.from_numpy(array) for name, array in zip(session.outputs, given, strict=True)}


def _targets(session: OrtSession, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values[TARGET + name] for name in session.outputs}
