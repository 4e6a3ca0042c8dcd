"""Work of a search: what each part of a network takes in each format in the target's runtime, and the fastest mixtures."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.capture.collect import site_shapes
from fewbit.data import DataSource
from fewbit.errors import FewbitError
from fewbit.flow.auto.latency_table import GAUGES, LatencyTable, chain
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.flow.auto.speed import DYNAMIC, FLOAT, INT8, mixture_recipe
from fewbit.flow.auto.units import Between, Part, names_of, parts_of, spread
from fewbit.flow.auto.work import calibration_samples, graph_of
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import target_for
from fewbit.flow.formats import Details, ModelFormat
from fewbit.flow.verification import details_for
from fewbit.formats.litert.kernels import litert_kernels, timed_litert_kernel
from fewbit.formats.onnx.kernels import onnx_kernels, timed_onnx_kernel
from fewbit.graph.hub import Hub
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import Progress
from fewbit.runtimes.cpu import cpu_features
from fewbit.runtimes.kernel import Kernel
from fewbit.runtimes.session import Feed
from fewbit.runtimes.table import runtime_named
from fewbit.search.latency_allocation import Border, Mixture, Unit, fastest, is_allowed, mixture_of

_THREADS = 1  # as candidates are timed
_SAMPLES = 4  # for scales, which times do not depend on
_BUDGETS = (float("inf"), 0.25, 0.0625)  # of the noise of the fastest: 6 and 12 dB below it
_ROUNDS = 3  # in which the model of borders is fitted to what the runtime makes of a mixture
_SECONDS = 20.0  # for the search around a mixture; what is found until then is taken
_MOST_FLIPS = 16
_NAMED = Details(keep_names=True)
_GAINED = 0.002  # of the time: less is within the error of the table


@dataclass(frozen=True, slots=True)
class Door:
    """How the kernels of a format's files are cut out and run."""

    cut: Callable[[Path, Feed], list[Kernel]]
    timed: Callable[[Kernel], Callable[[], object]]


DOORS: Mapping[str, Door] = MappingProxyType(
    {"onnx": Door(onnx_kernels, timed_onnx_kernel), "litert": Door(litert_kernels, timed_litert_kernel)}
)
"""Format → how its kernels are timed. In files of other formats they cannot be told apart."""


def costs(
    setup: Setup, splits: Splits, noise: Sequence[Mapping[str, Any]], folder: Path, progress: Progress
) -> dict[str, Any]:
    """The table of a network, and the fastest mixtures for budgets of noise.

    Args:
        noise: `layers` of `sensitivity` for the recipes int8 and int8-dynamic.

    Returns:
        `parts`: the nodes of each, milliseconds by format. `uniform`: format → milliseconds of the whole, by the table.
        `mixtures`: formats of nodes that are not int8, layers by format, milliseconds, noise. `notes`.
    """
    hub = graph_of(setup)
    source = calibration_samples(setup, splits, hub, limit=_SAMPLES)
    pricer = Pricer(hub, setup, source, progress)
    return pricer.found(_noises(noise))


@dataclass
class Pricer:
    """Prices plans of one graph by the kernels that the runtime makes of them."""

    hub: Hub
    setup: Setup
    source: DataSource
    progress: Progress
    formats: list[str] = field(default_factory=lambda: [FLOAT, INT8])
    parts: list[Part] = field(default_factory=list)
    between: list[Between] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    borders: list[Border] = field(default_factory=list)

    def __post_init__(self) -> None:
        target = target_for(self.setup.target)
        runtime = runtime_named(target.runtime)
        assert runtime is not None  # of speed.TARGETS
        self.job = Calibrator(self.hub, target, 1, self.progress, EFFORTS["fast"], self.source)
        self.table = LatencyTable(runtime.name, runtime.version(), cpu_features().name, _THREADS)
        self.door = DOORS[target.format]
        self.feed = next(iter(self.source.feeds()))
        self.deadline = float("inf")
        self._gauges = {name: self._gauge(name, *sizes) for name, sizes in GAUGES.items()}
        self._priced: dict[tuple[int, ...], float] = {}

    @property
    def format(self) -> ModelFormat:
        return self.job.format

    def found(self, noise: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        """What `costs` gives."""
        uniform = self._look(noise)
        mixtures = self._mixtures()
        return {
            "parts": [
                {
                    "nodes": part.nodes,
                    "milliseconds": {f: _finite(t) for f, t in zip(self.formats, u.times, strict=True)},
                }
                for part, u in zip(self.parts, self.units, strict=True)
            ],
            "uniform": uniform,
            "mixtures": [
                {
                    "formats": self._choices(m.formats),
                    "counts": self._counts(m.formats),
                    "milliseconds": m.time,
                    "noise": m.noise,
                }
                for m in mixtures
            ],
            "measured": self.table.measured,
            "notes": self.table.notes,
        }

    def price(self, plan: Plan | None) -> list[tuple[Kernel, float]]:
        """The kernels of a plan's file with their milliseconds; None: of the float model's."""
        lowered = self.hub.clone().model if plan is None else self.format.lower(self.hub, plan)
        float_plan = Plan(self.hub.fingerprint(), self.setup.target, FLOAT, {}, {})
        details = details_for(self.format, self.hub, plan or float_plan, self.source, self.setup.model, keep_names=True)
        kernels = self._cut_model(lowered, details)
        self.table.learn(kernels, self.door.timed, self._gauges, self.progress)
        return [(kernel, self.table.milliseconds(kernel.digest)) for kernel in kernels]

    def _cut_model(self, model: ir.Model, details: Details = _NAMED, feed: Feed | None = None) -> list[Kernel]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{self.format.suffix}"
            self.format.write(model, path, details)
            return self.door.cut(path, self.feed if feed is None else feed)

    def _gauge(self, name: str, count: int, width: int) -> Kernel:
        """A whole chain as one kernel."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{self.format.suffix}"
            self.format.write(chain(count, width), path, _NAMED)
            return Kernel(name, "Tanh", (), path.read_bytes(), {"x": np.full((1, width), 0.5, np.float32)})

    def _look(self, noise: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Time the uniform files, and divide the graph; the whole of each format, in milliseconds."""
        names = names_of(self.hub)
        plans: dict[str, Plan | None] = {FLOAT: None, INT8: self.job.plan(Recipe.get(INT8))}
        try:
            plans[DYNAMIC] = self.job.plan(Recipe.get(DYNAMIC))
            if plans[DYNAMIC].forms()["dynamic"]:  # type: ignore[union-attr]
                self.formats.append(DYNAMIC)
        except FewbitError as error:
            self.table.notes.append(f"no {DYNAMIC}: {error}")
        kernels = {name: self.price(plans[name]) for name in self.formats}
        times = {name: spread(found, names) for name, found in kernels.items()}
        whole = plans[INT8]
        assert whole is not None
        self.parts, self.between = parts_of(self.hub, whole, set(times[FLOAT]))
        self.units = [self._unit(part, plans, times, noise) for part in self.parts]
        self.borders = self._borders(1.0)
        whole_times = {name: sum(t for _, t in found) for name, found in kernels.items()}
        self._priced |= {self._uniform(i).formats: whole_times[name] for i, name in enumerate(self.formats)}
        self._priced[self._uniform(0).formats] = whole_times[FLOAT]  # where a format has nothing, it is float
        return whole_times

    def _unit(
        self,
        part: Part,
        plans: Mapping[str, Plan | None],
        times: Mapping[str, Mapping[str, float]],
        noise: Mapping[str, Mapping[str, float]],
    ) -> Unit:
        costs, brings, integers = [], [], []
        for name in self.formats:
            plan = plans[name]
            forms = [] if plan is None else [plan.nodes[node].form for node in part.nodes]
            known = (
                name == FLOAT or (name == INT8 and not part.heavy) or all(name in noise.get(n, {}) for n in part.heavy)
            )
            # Where a format leaves a part in float, it is float's business: one choice for one thing.
            useful = name == FLOAT or any(form not in ("float", "absorbed") for form in forms)
            costs.append(sum(times[name].get(n, 0.0) for n in part.nodes) if known and useful else float("inf"))
            brings.append(sum(noise.get(n, {}).get(name, 0.0) for n in part.heavy) if name != FLOAT else 0.0)
            integers.append(any(form in ("integer", "passthrough") for form in forms))
        return Unit(part.nodes[0], tuple(costs), tuple(brings), tuple(integers), not part.heavy)

    def _borders(self, factor: float) -> list[Border]:
        shapes = site_shapes(self.hub, [b.value for b in self.between], self.feed)
        made = {name: self._conversion(shapes[name]) for name in shapes}
        return [
            Border(b.source, b.readers, made[b.value][0] * factor, made[b.value][1] * factor, b.ends)
            for b in self.between
        ]

    def _conversion(self, shape: Sequence[int]) -> tuple[float, float]:
        """Milliseconds of QuantizeLinear and of DequantizeLinear at a size."""
        size = int(np.prod(shape)) or 1
        kernels = self._cut_model(
            conversion(size, self.job.target.activations), feed={"x": np.full((1, size), 0.5, np.float32)}
        )
        self.table.learn(kernels, self.door.timed, self._gauges, self.progress)
        to, back = (self.table.milliseconds(kernel.digest) for kernel in (kernels[0], kernels[-1]))
        return to, back

    def _mixtures(self) -> list[Mixture]:
        """The fastest of each budget of noise, by the kernels that the runtime really makes of it."""
        self.deadline = time.monotonic() + _SECONDS
        found: dict[tuple[int, ...], Mixture] = {}
        first: Mixture | None = None
        for budget in _BUDGETS:
            most = float("inf") if first is None or budget == float("inf") else budget * first.noise
            best = self._fastest(most)
            if best is None:
                continue
            first = first or best
            found.setdefault(best.formats, best)
        return [*found.values()]

    def _fastest(self, most: float) -> Mixture | None:
        """The best of a few programs, whose borders are scaled to what mixtures really take, and of their neighbours."""
        factor = 1.0
        uniform = [m for m in map(self._uniform, range(len(self.formats))) if m.noise <= most]
        best = min(map(self._real, uniform), key=lambda m: m.time, default=None)
        for _ in range(_ROUNDS):
            borders = self._borders(factor)
            guess = fastest(self.units, borders, most)
            if guess is None:
                break
            time_of_borders = guess.time - sum(u.times[f] for u, f in zip(self.units, guess.formats, strict=True))
            real = self._real(guess)
            if best is None or real.time < best.time:
                best = real
            missing = real.time - guess.time
            if time_of_borders <= 0 or abs(missing) < _GAINED * real.time:
                break
            factor = max(0.5, factor * (1.0 + missing / time_of_borders))
        return None if best is None else self._climb(best, most)

    def _uniform(self, form: int) -> Mixture:
        """All parts in one format, as far as they have it."""
        formats = [form if np.isfinite(unit.times[form]) else 0 for unit in self.units]
        return mixture_of(self.units, self.borders, formats)

    def _climb(self, best: Mixture, most: float) -> Mixture:
        """Change one part at a time while that helps, those first whose formats differ most in time beside a border."""
        tried = 0
        for index, form in self._flips(best):
            if tried >= _MOST_FLIPS or time.monotonic() > self.deadline:
                break
            formats = [*best.formats]
            formats[index] = form
            if not is_allowed(self.units, self.borders, formats):
                continue
            guess = mixture_of(self.units, self.borders, formats)
            if guess.noise > most:
                continue
            tried += 1
            real = self._real(guess)
            if real.time < best.time * (1.0 - _GAINED):
                best = real
        return best

    def _flips(self, mixture: Mixture) -> list[tuple[int, int]]:
        """(part, other format), the most promising first."""
        here = mixture_of(self.units, self.borders, mixture.formats).time
        moves = []
        for index, form in itertools.product(range(len(self.units)), range(len(self.formats))):
            if form == mixture.formats[index] or not np.isfinite(self.units[index].times[form]):
                continue
            formats = [*mixture.formats]
            formats[index] = form
            moves.append((mixture_of(self.units, self.borders, formats).time - here, index, form))
        return [(index, form) for _, index, form in sorted(moves)]

    def _real(self, mixture: Mixture) -> Mixture:
        """The same with the milliseconds of its file's kernels."""
        if mixture.formats not in self._priced:
            plan = self.job.plan(Recipe.get(mixture_recipe("mixed", self._choices(mixture.formats))))
            self._priced[mixture.formats] = sum(t for _, t in self.price(plan))
        return Mixture(mixture.formats, self._priced[mixture.formats], mixture.noise)

    def _choices(self, formats: Sequence[int]) -> dict[str, str]:
        """Node → format, of those that are not int8."""
        chosen: dict[str, str] = {}
        for part, form in zip(self.parts, formats, strict=True):
            name = self.formats[form]
            if name != INT8:
                chosen |= {node: name if node in part.heavy else FLOAT for node in part.nodes}
        return chosen

    def _counts(self, formats: Sequence[int]) -> dict[str, int]:
        """Format → nodes with weights."""
        counts = dict.fromkeys(self.formats, 0)
        for part, form in zip(self.parts, formats, strict=True):
            counts[self.formats[form]] += len(part.heavy)
        return counts


def conversion(size: int, kind: str) -> ir.Model:
    """A model that makes integers of so many numbers, and numbers again."""
    dtype = np.dtype(f"{kind}8")

    def constant(name: str, array: np.ndarray[Any, Any]) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)

    scale, zero = constant("scale", np.array(0.1, np.float32)), constant("zero", np.array(0, dtype))
    start = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, size]))
    to = ir.node("QuantizeLinear", [start, scale, zero], name="to")
    back = ir.node("DequantizeLinear", [to.outputs[0], scale, zero], name="back")
    for value, name in ((to.outputs[0], "q"), (back.outputs[0], "y")):
        value.name, value.shape = name, start.shape
    to.outputs[0].type, back.outputs[0].type = ir.TensorType(zero.dtype), start.type  # type: ignore[arg-type]
    graph = ir.Graph(
        [start],
        [*back.outputs],
        nodes=[to, back],
        initializers=[scale, zero],
        opset_imports={"": 17},
        name="conversion",
    )
    return ir.Model(graph, ir_version=8)


def _noises(layers: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Node → format → noise. That of a weight with several readers is shared among them."""
    found: dict[str, dict[str, float]] = {}
    for layer in layers:
        for node in layer["nodes"]:
            found[node] = {name: float(f["noise"]) / len(layer["nodes"]) for name, f in layer["formats"].items()}
    return found


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
