"""Time a model against a baseline in the runtime it is meant for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from fewbit.errors import ModelError
from fewbit.flow.common import batched, session_inputs, synthetic_feed, target_for
from fewbit.flow.faces import behind_one_face, own_feed, samples_for_all
from fewbit.flow.opening import ImportOptions, on_disk, open_models
from fewbit.measure.latency import Latency, interleaved
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.cpu import cpu_features
from fewbit.runtimes.execution import Execution
from fewbit.runtimes.memory import peak_memory
from fewbit.runtimes.session import Feed, Session
from fewbit.runtimes.table import open_model, runtime_of

_MODEL, _BASELINE = "model", "baseline"
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
    """Timings, and peak memory in bytes of loading and running at batch 1 in a fresh process.

    runtime: that of the model, with its version. execution: the kernels that run; None where the runtime does not tell.
    """

    timings: Sequence[Timing]
    memory: int
    baseline_memory: int | None
    bytes: int
    baseline_bytes: int | None
    runtime: str
    baseline_runtime: str | None
    execution: Execution | None
    baseline_execution: Execution | None
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
            "baseline_runtime": self.baseline_runtime,
            "execution": None if self.execution is None else self.execution.to_dict(),
            "baseline_execution": None if self.baseline_execution is None else self.baseline_execution.to_dict(),
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
        model, baseline: a path, ONNX or LiteRT, each timed in the runtime that opens it; or a model in memory.
        data: samples whose first feed is used; random numbers otherwise.
        batch, threads: every combination is timed; batches that the model does not take are left out with a note.

    Raises:
        InputError: wrong model, data or target.
    """
    target_for(target)
    for path in (model, baseline):
        if isinstance(path, str | Path) and not Path(path).is_file():
            raise ModelError(f"{path} does not exist")
    model, baseline = open_models([model, baseline], ImportOptions(), data, to_run=True)
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
    timings: list[Timing] = []
    files = {_MODEL: model} if baseline is None else {_MODEL: model, _BASELINE: baseline}
    feed, faced, notes = _feed_for({f"the {name}": open_model(p) for name, p in files.items()}, data, preprocess)
    inputs = session_inputs(faced[0])
    with progress.task("timing", len(batch) * len(threads) * rounds) as advance:
        for size in batch:
            repeated = batched(feed, inputs, size)
            if repeated is None:
                notes.append(f"batch {size} left out: the model's batch is fixed")
                continue
            for count in threads:
                runs = {}
                # The first is what the others are compared with.
                for (name, path), session in reversed([*zip(files.items(), faced, strict=True)]):
                    runs[name] = open_model(path, threads=count).timed(own_feed(session, repeated))
                measured = {x.name: x for x in interleaved(runs, rounds=rounds, advance=advance)}
                timing = Timing(size, count, measured[_MODEL], measured.get(_BASELINE))
                timings.append(timing)
                notes += _remarks(timing)
    sides = [_Side.of(path, own_feed(s, feed), notes) for path, s in zip(files.values(), faced, strict=True)]
    one, base = sides[0], sides[1] if baseline is not None else None
    return BenchmarkResult(
        timings,
        one.memory,
        base and base.memory,
        one.bytes,
        base and base.bytes,
        one.runtime,
        base and base.runtime,
        one.execution,
        base and base.execution,
        cpu_features().name,
        notes,
    )


class _Side(NamedTuple):
    """What one model needs, in the order of the fields of the result."""

    memory: int
    bytes: int
    runtime: str
    execution: Execution | None

    @classmethod
    def of(cls, path: Path, feed: Feed, notes: list[str]) -> _Side:
        runtime = runtime_of(path)
        execution = None
        try:
            execution = runtime.execution(path)
        except ModelError as error:  # a graph of over 2 GB, which the runtime cannot write
            notes.append(f"the kernels that run are not known: {error}")
        return cls(peak_memory(path, feed), os.path.getsize(path), f"{runtime.name} {runtime.version()}", execution)


def _feed_for(
    sessions: Mapping[str, Session], data: Any, preprocess: str | None
) -> tuple[Feed, list[Session], list[str]]:
    """One feed, the sessions behind the face that it has, and notes."""
    if data is not None:
        source, faced, notes = samples_for_all(
            sessions, data, limit=1, preprocess=preprocess, purpose="timing", outputs=False
        )
        return next(islice(source.feeds(), 1)), faced, notes
    faced, notes = behind_one_face(sessions, outputs=False)
    notes.append("timed on random inputs; give --data where the values change the work")
    return synthetic_feed(session_inputs(faced[0])), faced, notes


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
