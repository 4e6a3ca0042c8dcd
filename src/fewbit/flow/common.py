"""What several jobs need: the model's inputs as the data readers want them, and the target for this machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from fewbit.data import DataSource, InputInfo, open_source
from fewbit.errors import DataError, RecipeError
from fewbit.graph.hub import Hub
from fewbit.runtimes.cpu import cpu_features
from fewbit.runtimes.session import Session
from fewbit.runtimes.table import runtime_named
from fewbit.targets import Target, for_machine, get_target

NAMED = 5  # layers in a note; the plan names all
SYNTHETIC = "synthetic"
"""What `data` is where samples are to be made for the model; see `fewbit.flow.synthetic`."""

_LONG = 48  # characters: what converters join of several names fills a screen


def target_for(name: str | Target) -> Target:
    """A target by name; `ort-cpu` with the limits of this machine's CPU."""
    target = get_target(name) if isinstance(name, str) else name
    return for_machine(target, vnni=cpu_features().vnni)


def check_runtime(target: Target) -> None:
    """Import the runtime that a target's files are verified in, before the work and not after it.

    Raises:
        MissingExtraError: it is not installed.
    """
    runtime = runtime_named(target.runtime)
    if runtime is not None:
        runtime.preload()


def hub_inputs(hub: Hub) -> list[InputInfo]:
    return [InputInfo(info.name, info.dtype, info.shape) for info in hub.inputs]


def session_inputs(session: Session) -> list[InputInfo]:
    return [InputInfo(name, dtype, tuple(shape)) for name, (dtype, shape) in session.input_shapes().items()]


def no_samples(purpose: str) -> RecipeError:
    """The error of a job that needs samples and has none."""
    return RecipeError(f"{purpose} needs samples: give --data (an .npz, a folder, FILE.py:NAME, or synthetic)")


def is_synthetic(data: Any) -> bool:
    return isinstance(data, str) and data == SYNTHETIC


def samples_for(
    data: Any, inputs: list[InputInfo], *, limit: int | None, preprocess: str | None, purpose: str
) -> DataSource:
    """The samples, or an error that says what they are needed for."""
    if data is None:
        raise no_samples(purpose)
    if is_synthetic(data):
        raise RecipeError(f"{purpose} needs real samples: --data {SYNTHETIC} is for `quantize` and `tune` alone")
    return open_source(data, inputs=inputs, limit=limit, preprocess=preprocess)


def synthetic_feed(
    inputs: list[InputInfo], batch: int = 1, seed: int = 0, integer: int = 0
) -> dict[str, np.ndarray[Any, Any]]:
    """A feed to time or smoke-test a model with: normal floats, one integer; unknown sizes are 1, the first the batch."""
    generator = np.random.default_rng(seed)
    feed = {}
    for info in inputs:
        sizes = [n if isinstance(n, int) and n > 0 else 1 for n in info.shape or ()]
        if info.shape and not isinstance(info.shape[0], int):
            sizes[0] = batch
        dtype = info.dtype if info.dtype is not None else np.dtype(np.float32)
        if dtype.kind == "f":
            feed[info.name] = generator.standard_normal(sizes).astype(dtype)
        else:
            feed[info.name] = np.full(sizes, integer).astype(dtype)
    return feed


def finite_feed(inputs: list[InputInfo], session: Session) -> dict[str, np.ndarray[Any, Any]]:
    """A synthetic feed for which a model gives numbers, if one of two does: a mask of zeros leaves nothing to average, and
    an index of one may not exist."""
    for integer in (0, 1):
        feed = synthetic_feed(inputs, integer=integer)
        with suppress(DataError):
            if all(np.isfinite(output).all() for output in session.run(feed) if output.dtype.kind == "f"):
                return feed
    return synthetic_feed(inputs)


def batched(feed: Mapping[str, np.ndarray[Any, Any]], inputs: list[InputInfo], batch: int) -> dict[str, Any] | None:
    """A feed repeated to a batch, or None where some input's first axis is fixed."""
    if batch == 1:
        return dict(feed)
    repeated = {}
    for info in inputs:
        if not info.shape or isinstance(info.shape[0], int):
            return None
        array = feed[info.name]
        repeated[info.name] = np.concatenate([array] * batch)[:batch] if len(array) == 1 else array
    return repeated


def some(names: Collection[str]) -> str:
    """The first few of the names, long ones cut in the middle, and how many more there are."""
    shown = [n if len(n) <= _LONG else f"{n[: _LONG // 2]}…{n[-_LONG // 2 :]}" for n in list(names)[:NAMED]]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
