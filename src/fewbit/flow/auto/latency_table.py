"""What kernels take in a runtime on this machine, kept between searches.

A kernel is timed once for all: its digest says all that its time depends on. The file of a runtime, its version, a processor
and a number of threads lies in the user's cache folder, or where FEWBIT_CACHE says.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fewbit.errors import FewbitError, OutputError
from fewbit.graph.atomic import atomic_files
from fewbit.measure.latency import interleaved
from fewbit.progress import Progress
from fewbit.runtimes.kernel import Kernel

CACHE = "FEWBIT_CACHE"
"""Environment variable: the folder for what is kept between runs."""

VERSION = 1
_ROUNDS = 5  # of 20 ms each
_AT_ONCE = 24  # kernels that are timed in turns: more would hold more weights in memory
_YARDSTICK, _EMPTY, _LONG = "yardstick", "empty", "long"


class LatencyTable:
    """Milliseconds of kernels, by their digests.

    notes: what was wrong with the file. measured: kernels that this object timed.
    """

    def __init__(self, runtime: str, version: str, cpu: str, threads: int, folder: Path | None = None) -> None:
        self.about = {"runtime": runtime, "version": version, "cpu": cpu, "threads": threads}
        name = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:16]
        self.path = (cache_folder() if folder is None else folder) / "latency" / f"{name}.json"
        self.notes: list[str] = []
        self.measured = 0
        self._failed: set[str] = set()
        self._yardstick, self._times = self._read()

    def milliseconds(self, digest: str) -> float:
        """Of a kernel that `learn` was given; KeyError for another one."""
        return 0.0 if digest in self._failed else self._times[digest]

    def __contains__(self, digest: str) -> bool:
        return digest in self._times or digest in self._failed

    def learn(
        self,
        kernels: Iterable[Kernel],
        timed: Callable[[Kernel], Callable[[], object]],
        gauges: Mapping[str, Kernel],
        progress: Progress,
    ) -> None:
        """Time those that are not in the table, and keep the file.

        They run in turns with a yardstick, whose time is in the table from the beginning: what a noisy machine does to both
        cancels, and times of different days go together. What calling the runtime takes is taken off.

        Args:
            timed: one run of a kernel. gauges: `gauges`.
        """
        missing = [*{kernel.digest: kernel for kernel in kernels if kernel.digest not in self}.values()]
        if not missing:
            return
        with progress.task("timing kernels", len(missing)) as advance:
            for start in range(0, len(missing), _AT_ONCE):
                self._time(missing[start : start + _AT_ONCE], timed, gauges)
                advance(min(_AT_ONCE, len(missing) - start))
        self._write()

    def _time(
        self, some: Sequence[Kernel], timed: Callable[[Kernel], Callable[[], object]], gauges: Mapping[str, Kernel]
    ) -> None:
        runs = {name: timed(gauges[name]) for name in (_YARDSTICK, _EMPTY, _LONG)}
        for kernel in some:
            try:
                runs[kernel.digest] = timed(kernel)
            except FewbitError as error:
                self._failed.add(kernel.digest)  # for this run alone: not in the file
                self.notes.append(f"{kernel.op} cannot be timed alone, and counts as nothing: {error}")
        found = {x.name: x for x in interleaved(runs, rounds=_ROUNDS)}
        if self._yardstick is None:
            self._yardstick = found[_YARDSTICK].milliseconds
        times = {name: self._yardstick / x.ratio for name, x in found.items()}
        # Between the nodes of a chain lies what a node of a model takes beside its work; the rest is the call.
        node = max(0.0, (times[_LONG] - times[_EMPTY]) / (LONG - 1))
        call = max(0.0, times[_EMPTY] - node)
        for kernel in some:
            if kernel.digest in times:
                self._times[kernel.digest] = max(0.0, times[kernel.digest] - call)
                self.measured += 1

    def _read(self) -> tuple[float | None, dict[str, float]]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None, {}
        except (OSError, UnicodeDecodeError) as error:
            self.notes.append(f"the table of times {self.path} is ignored: {error}")
            return None, {}
        try:
            return _parsed(json.loads(text), self.about)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.notes.append(
                f"the table of times {self.path} is ignored and made anew: {type(error).__name__} {error}"
            )
            return None, {}

    def _write(self) -> None:
        with suppress(
            ValueError, KeyError, TypeError, AttributeError, OSError
        ):  # what another search has added meanwhile
            yardstick, others = _parsed(json.loads(self.path.read_text(encoding="utf-8")), self.about)
            if yardstick == self._yardstick:
                self._times = {**others, **self._times}
        whole = {"schema_version": VERSION, **self.about, "yardstick": self._yardstick, "milliseconds": self._times}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_files(self.path) as (file,):
                file.write(json.dumps(whole, allow_nan=False).encode())
        except (OSError, OutputError) as error:
            self.notes.append(f"the times of kernels are not kept: {error}")


def cache_folder() -> Path:
    """Where things lie that can be made again: FEWBIT_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get(CACHE) or user_cache_dir("fewbit"))


LONG, _WIDE = 33, 16384


def chain(count: int, width: int) -> Any:
    """A model of so many functions of so many numbers, one after another: what kernels are measured by."""
    import onnx_ir as ir

    value = start = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, width]))
    nodes = []
    for index in range(count):
        node = ir.node("Tanh", [value], name=f"n{index}")
        (value,) = node.outputs
        value.name, value.type, value.shape = f"y{index}", start.type, start.shape
        nodes.append(node)
    graph = ir.Graph([start], [value], nodes=nodes, opset_imports={"": 17}, name="chain")
    return ir.Model(graph, ir_version=8)


GAUGES: Mapping[str, tuple[int, int]] = {_YARDSTICK: (1, _WIDE), _EMPTY: (1, 1), _LONG: (LONG, 1)}
"""Name → functions, and numbers of each, of the chain."""


def _parsed(data: Any, about: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
    if data["schema_version"] != VERSION or any(data[name] != value for name, value in about.items()):
        raise ValueError("it is of another version, runtime or machine")
    times = {str(digest): float(value) for digest, value in data["milliseconds"].items()}
    yardstick = float(data["yardstick"])
    if not all(math.isfinite(x) and x >= 0.0 for x in times.values()) or not 0.0 < yardstick < math.inf:
        raise ValueError("a time is no number from 0 on")
    return yardstick, times
