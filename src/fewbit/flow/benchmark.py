"""Time a model against a baseline in the runtime it is meant for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from fewbit.errors import ModelError
from fewbit.flow.common import batched, samples_for, session_inputs, synthetic_feed, target_for
from fewbit.flow.opening import ImportOptions, on_disk, open_models
from fewbit.measure.latency import Latency, interleaved
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.cpu import cpu_features
from fewbit.runtimes.memory import peak_memory
from fewbit.runtimes.onnxruntime import open_session, version

_NOISY = 0.15  # relative interquartile range above which the user is told


@dataclass(frozen=True, slots=True)
class Timing:
    """One setting: batch and threads, with the model's latency and the baseline's."""

    batch: int
    threads: int
    model: Latency
    baseline: Latency | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "batch": self.batch,
            "threads": self.threads,
            "model": self.model.to_dict(),
            "baseline": None if self.baseline is None else self.baseline.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Timings, and peak memory in bytes of loading and running at batch 1 in a fresh process."""

    timings: Sequence[Timing]
    memory: int
    baseline_memory: int | None
    bytes: int
    baseline_bytes: int | None
    runtime: str
    cpu: str
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "timings": [t.to_dict() for t in self.timings],
            "memory": self.memory,
            "baseline_memory": self.baseline_memory,
            "bytes": self.bytes,
            "baseline_bytes": self.baseline_bytes,
            "runtime": self.runtime,
            "cpu": self.cpu,
            "notes": list(self.notes),
        }


def benchmark(
    model: str | Path | Any,
    *,
    baseline: str | Path | Any = None,
    data: Any = None,
    target: str = "ort-cpu",
    batch: Sequence[int] = (1,),
    threads: Sequence[int] = (1,),
    rounds: int = 15,
    preprocess: str | None = None,
    progress: Progress = SILENT,
) -> BenchmarkResult:
    """Latency and memory of a model, interleaved with the baseline.

    Args:
        model, baseline: a path, or a model in memory.
        data: samples whose first feed is used; random numbers otherwise.
        batch, threads: every combination is timed; batches that the model does not take are left out with a note.

    Raises:
        InputError: wrong model, data or target.
    """
    target_for(target)
    for path in (model, baseline):
        if isinstance(path, str | Path) and not Path(path).is_file():
            raise ModelError(f"{path} does not exist")
    model, baseline = open_models([model, baseline], ImportOptions(), data)
    with on_disk(model) as path, nullcontext() if baseline is None else on_disk(baseline) as other:
        return _measure(path, other, data, batch, threads, rounds, preprocess, progress)


def _measure(
    model: Path,
    baseline: Path | None,
    data: Any,
    batch: Sequence[int],
    threads: Sequence[int],
    rounds: int,
    preprocess: str | None,
    progress: Progress,
) -> BenchmarkResult:
    timings, notes = [], []
    probe = open_session(model)
    inputs = session_inputs(probe)
    if data is None:
        feed: Any = synthetic_feed(inputs)
        notes.append("timed on random inputs; give --data where the values change the work")
    else:
        source = samples_for(data, inputs, limit=1, preprocess=preprocess, purpose="timing")
        feed = next(islice(source.feeds(), 1))
    with progress.task("timing", len(batch) * len(threads) * rounds) as advance:
        for size in batch:
            repeated = batched(feed, inputs, size)
            if repeated is None:
                notes.append(f"batch {size} left out: the model's batch is fixed")
                continue
            for count in threads:
                sessions = {"baseline": open_session(baseline, threads=count)} if baseline is not None else {}
                sessions["model"] = open_session(model, threads=count)
                runs = {name: partial(s.run, repeated) for name, s in sessions.items()}
                measured = {x.name: x for x in interleaved(runs, rounds=rounds, advance=advance)}
                timing = Timing(size, count, measured["model"], measured.get("baseline"))
                timings.append(timing)
                notes += _remarks(timing)
    return BenchmarkResult(
        timings,
        peak_memory(model, feed),
        None if baseline is None else peak_memory(baseline, feed),
        os.path.getsize(model),
        None if baseline is None else os.path.getsize(baseline),
        f"onnxruntime {version()}",
        cpu_features().name,
        notes,
    )


def _remarks(timing: Timing) -> list[str]:
    notes = []
    where = f"batch {timing.batch}, {timing.threads} thread{'s' if timing.threads > 1 else ''}"
    if timing.baseline is not None:
        if timing.model.high < 1.0:
            notes.append(
                f"{where}: slower than the baseline (×{timing.model.ratio:.2f}); keep float if speed is the aim"
            )
        elif timing.model.low <= 1.0 <= timing.model.high:
            notes.append(f"{where}: no measurable gain in speed (×{timing.model.ratio:.2f})")
        if timing.model.spread / timing.model.ratio > _NOISY:
            notes.append(f"{where}: the machine is noisy (interquartile range {timing.model.spread:.2f} of the ratio)")
    return notes
