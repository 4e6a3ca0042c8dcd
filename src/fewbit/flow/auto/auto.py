"""Find the best quantized form of a model for a target, within what can be tolerated, and prove it."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fewbit
from fewbit.errors import InputError, ModelError, OutputError, RecipeError
from fewbit.flow.auto.document import Header
from fewbit.flow.auto.entries import compared_by
from fewbit.flow.auto.found import Options
from fewbit.flow.auto.publish import Publisher
from fewbit.flow.auto.search import Search
from fewbit.flow.auto.session import Session
from fewbit.flow.auto.setup import Setup, check_repeatable, described, file_digest, first_look
from fewbit.flow.common import SYNTHETIC, check_runtime, hub_inputs, is_synthetic, no_samples, target_for
from fewbit.flow.duration import seconds as duration
from fewbit.flow.formats import target_name
from fewbit.flow.opening import ImportOptions, load, open_models
from fewbit.flow.quantize import check_float
from fewbit.formats.litert.kinds import is_litert
from fewbit.graph.answers import decisions
from fewbit.graph.hub import Hub
from fewbit.graph.save import save
from fewbit.measure.metrics import resolve_metric
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.table import runtime_named
from fewbit.search.executor import Executor, LocalExecutor
from fewbit.search.limits import Limits, check_max_drop, ratio, size
from fewbit.search.objective import parse_objective
from fewbit.search.store import Store
from fewbit.targets import Target

STORE = "session"
CALIBRATION_SAMPLES = 128  # as the standard effort of `quantize`
_TIMEOUT = 1800.0  # seconds that one piece of work may take; what takes longer hangs
_IDENTITY = "identity"
_AUTO = "auto"


@dataclass(frozen=True, slots=True)
class AutoResult:
    """What a search found.

    folder: where everything is. path: the chosen model; None where nothing keeps to the limits. document: all figures, as in
    `auto.json`.
    """

    folder: Path
    path: Path | None
    document: Mapping[str, Any] = field(repr=False)

    @property
    def verdict(self) -> str:
        """`pass`, `fail`, `undecided`, or `none` where nothing was certified."""
        found = self.document["verdict"]
        return "none" if found is None else str(found["kind"])

    def to_dict(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "path": None if self.path is None else str(self.path), **self.document}


def auto(
    model: str | Path | Any,
    data: Any = None,
    evaluation: Any = None,
    metric: Any = None,
    target: str | None = None,
    max_drop: str | float | None = None,
    objective: str = "latency",
    budget: str | float | None = None,
    session: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    certification: Any = None,
    max_size: str | int | None = None,
    max_latency_ratio: float | None = None,
    max_memory: str | int | None = None,
    strict: bool = False,
    recipes: Sequence[str] = (),
    confidence: float = 0.95,
    limit: int | None = None,
    preprocess: str | None = None,
    format: str | None = None,
    seed: int = 0,
    workers: int | str = 1,
    timeout: str | float | None = None,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    factory: str | Callable[[], Any] | None = None,
    allow_pickle: bool = False,
    signature: str | None = None,
    command: str = "",
    progress: Progress = SILENT,
    changed: Callable[[Mapping[str, Any]], None] = lambda document: None,
) -> AutoResult:
    """Find the best quantized form of a model for a target.

    The samples for calibration, for the search and for the verdict are never the same ones. Every measurement is kept in the
    session as soon as it is there: a search that was stopped, or killed, goes on with `resume`.

    Args:
        model: as of `fewbit.quantize`.
        data: samples for calibration (docs/data.md). Without `evaluation`, some of them serve for the search and the verdict
            too.
        evaluation: labelled samples. They are divided, by their labels where these are few, into samples for the search and
            samples for the verdict; None: agreement with the float model is what counts, and no labels are needed.
        certification: labelled samples for the verdict; `evaluation` then serves for the search alone.
        metric: a built-in name, `FILE.py:NAME(...)`, or a callable (outputs, labels) -> value, or values a sample.
        target: where the model will run; None: this machine, in ONNX Runtime.
        max_drop: `0.5pt` (points, hundredths of a share), `1%` (of the float model's value), or a number in the metric's own
            unit, which for a share stands for points from 0.1 on. None: half a point of a share, 1 % of anything else.
        objective: `latency`, `size`, `energy`, or weights such as `latency=2,size=1`: what is made small is the weighted sum
            of time, bytes and energy beside the float model's.
        budget: seconds, or `90s`, `10m`, `1h`; None: as long as it takes.
        session: the folder in which measurements are kept; None: `session` in `out`.
        out: the folder for the results; None: `session` holds them too.
        resume: go on with the session that is there.
        max_size, max_latency_ratio, max_memory: limits that the chosen model keeps to: `500kB`, 0.5 (of the float model's
            time), `2MB`.
        strict: choose only what is proved to keep to the drop; otherwise what is undecided may be chosen, and the verdict
            says so.
        recipes: candidates to try instead of the target's own.
        confidence: of the verdict.
        limit: calibration samples (128).
        seed: of the division of samples and of resampling.
        workers: pieces of work at once, here; or `ray://HOST:PORT`, or `auto`: the Ray cluster that this machine
            belongs to, or as many as there are cores where Ray is not installed. Measurements of time run here and
            alone in any case.
        timeout: what one piece of work may take (30m); it is recorded as hanging then, and the search goes on.
        command: the command line, for the record.
        changed: called with the document whenever something was found.

    Raises:
        InputError: what was given is wrong; also a session of another search, or one that another process holds.
        ConstraintError: the budget ended before anything was measured.
    """
    begun = time.monotonic()
    chosen = target_for(target_name(target, format, None))
    check_runtime(chosen)
    wanted = parse_objective(objective)
    if max_drop is not None:
        check_max_drop(max_drop)
    if not 0.5 <= confidence < 1.0:
        raise RecipeError(f"confidence {confidence:g} is not between 0.5 and 1: 0.95 is usual")
    limits = Limits(
        size(max_size, "max-size"), ratio(max_latency_ratio, "max-latency-ratio"), size(max_memory, "max-memory")
    )
    if limits.max_latency_ratio is not None and not _is_timed(chosen):
        raise RecipeError(
            f"max-latency-ratio {limits.max_latency_ratio:g} cannot be kept to: nothing is timed for {chosen.name}, which "
            "stands for a device that is not this machine; leave it out, or limit --max-size or --max-memory"
        )
    allowed = None if budget is None else duration(budget)
    if data is None:
        raise no_samples("a search")
    if is_synthetic(data):
        raise RecipeError(f"a search needs real samples: --data {SYNTHETIC} is for `quantize` and `tune` alone")
    if evaluation is not None and metric is None:
        raise RecipeError(
            "--eval says on what a model is judged, and --metric by what: give --metric (top1, auc, FILE.py:NAME)"
        )
    if evaluation is None and (metric is not None and resolve_metric(metric).against == "labels"):
        raise RecipeError("--metric needs labelled samples: give --eval")
    for what, source in (("--data", data), ("--eval", evaluation), ("--certify", certification)):
        check_repeatable(source, f"the samples of {what}")
    out, folder = _folders(out, session)
    _check_folder(out, folder, resume)
    fresh = not any(out.iterdir())
    try:
        with Store(folder) as store:
            importing = ImportOptions(example_inputs, dynamic_shapes, factory, allow_pickle, signature)
            path, hub = _prepared(model, importing, data, folder, progress)
            setup = Setup(
                path,
                data,
                evaluation,
                certification,
                metric if metric is not None else _fidelity(hub),
                preprocess,
                chosen.name,
                seed,
                confidence,
                limit or CALIBRATION_SAMPLES,
                _signature(path, signature),
            )
            executor = _executor(workers, folder)
            by = compared_by(wanted, timed=_is_timed(chosen))
            options = Options(wanted, by, max_drop, limits, strict, tuple(recipes), executor.workers)
            _check_identity(store, setup, hub_inputs(hub))
            header = Header(fewbit.__version__, _now(store), command, _name(model), allowed)
            publisher = Publisher(out, store.folder, header, setup, options, begun)
            work = Session(
                store,
                executor,
                timeout=_TIMEOUT if timeout is None else duration(timeout),
                deadline=None if allowed is None else begun + allowed,
            )
            search = Search(setup, options, work, lambda so_far: changed(publisher.update(so_far)))
            work.heard = lambda key, line: _heard(search, progress, line)
            found = search.run()
            final = publisher.finish(found)
    except InputError:
        if fresh:  # so that the next try need not begin with cleaning up
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                out.rmdir()
        raise
    return AutoResult(out, publisher.model_path(found), final)


def _is_timed(target: Target) -> bool:
    """Whether this machine's times say something of the target."""
    runtime = runtime_named(target.runtime)
    return runtime is None or runtime.timed


def _folders(out: str | Path | None, session: str | Path | None) -> tuple[Path, Path]:
    if out is None and session is None:
        raise RecipeError("a search needs a folder for what it finds: give out (-o DIR)")
    results = Path(out if out is not None else session)  # type: ignore[arg-type]
    return results, Path(session) if session is not None and out is not None else results / STORE


def _check_folder(out: Path, folder: Path, resume: bool) -> None:
    """Raise OutputError for a folder that holds something already, unless its session is to go on."""
    for path in (out, folder):
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is no folder; give another name")
    held = [*out.glob("*"), *folder.glob("*")]
    if held and not resume:
        raise OutputError(f"{out} is not empty: --resume goes on with its session, or give another folder")
    if resume and not (folder / "store.sqlite").exists() and held:
        raise OutputError(
            f"{folder} holds no session to go on with; give the folder of an earlier run, or an empty one"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error


def _executor(workers: int | str, folder: Path) -> Executor:
    """What runs the work: a number of processes here, or a Ray cluster by its address."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)  # what a killed search was doing
    work.mkdir(parents=True)
    text = str(workers)
    if text == _AUTO and find_spec("ray") is None:
        text = str(os.cpu_count() or 1)
    if text == _AUTO or text.startswith("ray://"):
        from fewbit.search.ray import RayExecutor

        return RayExecutor(work, text)
    if not text.isdigit() or int(text) < 1:
        raise RecipeError(f"workers {workers!r}: give a number from 1 on, ray://HOST:PORT, or {_AUTO}")
    return LocalExecutor(work, int(text))


def _prepared(model: Any, importing: ImportOptions, data: Any, folder: Path, progress: Progress) -> tuple[str, Hub]:
    """The model as a file that the processes at work can open, and its graph."""
    (opened,) = open_models([model], importing, data, progress, to_run=True)
    if isinstance(opened, str | Path):
        path = Path(opened).absolute()
        if not path.is_file():
            raise ModelError(f"{path} does not exist")
    else:
        path = folder / "model.onnx"
        save(load(opened, normalize=False).model, path)
    hub = load(path, signature=_signature(path, importing.signature))
    check_float(hub, model)
    return str(path), hub


def _signature(path: Path | str, given: str | None) -> str | None:
    """Of the file that work opens: one that was imported holds what was asked for, and nothing else."""
    return given if is_litert(path) else None


def _fidelity(hub: Hub) -> str:
    """What counts where there are no labels: the answers, where the first output is of these, else its direction."""
    first = hub.outputs[0]
    integer = first.dtype is not None and first.dtype.kind in "iub"
    return "agreement" if integer or first.name in decisions(hub) else "cosine"


def _check_identity(store: Store, setup: Setup, inputs: Sequence[Any]) -> None:
    """Raise RecipeError for a session of another search."""
    metric = resolve_metric(setup.metric)
    identity = {
        "model": file_digest(setup.model),
        "data": described(setup.data),
        "first sample of data": first_look(setup.data, setup.preprocess, inputs),
        "eval": described(setup.evaluation),
        "first sample of eval": first_look(setup.evaluation, setup.preprocess, inputs),
        "certify": described(setup.certification),
        "metric": metric.name,
        "target": setup.target,
        "preprocess": setup.preprocess,
        "seed": setup.seed,
        "confidence": setup.confidence,
        "calibration samples": setup.calibration_limit,
        "fewbit": fewbit.__version__,
    }
    before = store.fact(_IDENTITY)
    if before is None:
        store.set_fact(_IDENTITY, identity)
        return
    other = [name for name, value in identity.items() if before.get(name) != value]
    if other:
        told = ", ".join(f"{name} was {before.get(name)!s:.40}, now {identity[name]!s:.40}" for name in other)
        raise RecipeError(f"session {store.folder} is of another search: {told}; give the same, or another folder")


def _now(store: Store) -> str:
    """When the session began."""
    begun = store.fact("created")
    if begun is None:
        begun = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        store.set_fact("created", begun)
    return str(begun)


def _name(model: Any) -> str:
    return Path(model).name if isinstance(model, str | Path) else "the model"


def _heard(search: Search, progress: Progress, line: Mapping[str, Any]) -> None:
    """Pass on what work tells while it goes on."""
    if "note" in line:
        progress.note(str(line["note"]))
    else:
        search.heard(line)
