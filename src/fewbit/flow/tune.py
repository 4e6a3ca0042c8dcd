"""Tune: quantize, then train with quantization simulated until the outputs are those of the float model; no labels needed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewbit.callables import call_user_code, load_callable
from fewbit.data import DataSource, open_source
from fewbit.errors import ModelError, OutputError, PlanError, RecipeError
from fewbit.extras import load_extra
from fewbit.flow.calibrate import Calibrator, Effort
from fewbit.flow.common import check_runtime, hub_inputs, is_synthetic, target_for
from fewbit.flow.duration import seconds
from fewbit.flow.formats import format_of, target_name
from fewbit.flow.opening import ImportOptions, open_models
from fewbit.flow.quantize import QuantizeResult, check_output, effort_named, quantize
from fewbit.flow.synthetic import calibration_source
from fewbit.formats.litert.kinds import is_litert
from fewbit.graph.hub import Hub
from fewbit.graph.load import check_weights, find_quantization, load
from fewbit.measure.compare import finite_or_none
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT, Progress
from fewbit.targets import Target

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    import torch

    from fewbit.torchgraph.checkpoint import Checkpoint
    from fewbit.torchgraph.distill import Course, Distiller
    from fewbit.torchgraph.losses import Loss
    from fewbit.torchgraph.quantized import QuantizedGraph
    from fewbit.torchgraph.samples import Samples

_HELD_BACK = 0.1  # of the samples, to judge by
_MEMORY = 1 << 29  # bytes of samples and targets that stay in memory
_RESERVE = 0.04  # of a time limit, for the export and its verification
_LEAST_RESERVE = 2.0  # seconds
_WARM_STEPS = 2  # timed to find what fits a time limit
_BLOCK_SHARE = 0.3  # of the time that training has, for the blocks
_BLOCK_SAMPLES = 1024  # as BRECQ and QDrop use
_BLOCK_HELD = 256  # samples held back that blocks are judged by
DEFAULT_UPDATES = 300  # for each block
_LEAST_UPDATES, _MOST_UPDATES = 100, 1000
DEFAULT_EPOCHS = 20
PATIENCE = 10  # epochs without a better loss


@dataclass(frozen=True, slots=True)
class TuneResult:
    """A tuned model and how it came about.

    quantized: the exported model with its evidence, as `quantize` gives it.
    start, end: loss in the runtime on the held-back samples: of the plan before training, and of the one that is exported.
    losses: simulated, on the held-back samples: before training, after reconstruction where there was some, after each epoch.
    blocks: for each block that was reconstructed the error of its outputs on held-back samples before and after, in parts of
        the mean square of the float outputs (the loss, where they are those of the graph).
    """

    quantized: QuantizeResult
    start: float
    end: float
    losses: Sequence[float]
    blocks: Sequence[tuple[float, float]]
    samples: int
    held_back: int
    notes: Sequence[str]
    seconds: float

    @property
    def plan(self) -> Plan:
        return self.quantized.plan

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.quantized.to_dict(),
            "tuning": {
                "start_loss": finite_or_none(self.start),
                "end_loss": finite_or_none(self.end),
                "losses": [finite_or_none(loss) for loss in self.losses],
                "blocks": [[finite_or_none(error) for error in errors] for errors in self.blocks],
                "samples": self.samples,
                "held_back": self.held_back,
            },
            "notes": [*self.notes, *self.quantized.notes],
            "seconds": self.seconds,
        }


@dataclass
class _Job:
    """What the steps of one run share. checkpoint: the file of the session; found: what stood there to go on from."""

    hub: Hub
    device: torch.device
    batch: int
    epochs: int | None
    updates: int | None
    seed: int
    progress: Progress
    deadline: float
    identity: dict[str, Any]
    checkpoint: Path | None
    found: Checkpoint | None = None
    notes: list[str] = field(default_factory=list)

    def keep(self, stage: str, state: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Write a checkpoint, if there is a session."""
        from fewbit.torchgraph.checkpoint import Checkpoint

        if self.checkpoint is not None:
            Checkpoint(self.identity, stage, state, tensors).save(self.checkpoint)


def tune(
    model: str | Path | onnx.ModelProto | ir.Model | Hub,
    data: Any = None,
    recipe: str | Path | Recipe | Mapping[str, Any] = "w4a8",
    target: str | Target | None = None,
    out: str | Path | None = None,
    *,
    limit: int | None = None,
    preprocess: str | None = None,
    effort: str = "standard",
    epochs: int | None = None,
    block_updates: int | None = None,
    time_limit: str | float | None = None,
    batch: int = 32,
    augment: int = 0,
    seed: int = 0,
    loss: str | Callable[..., Any] | None = None,
    session: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    exclude: Sequence[str] = (),
    keep_names: bool = False,
    threads: int = 1,
    progress: Progress = SILENT,
) -> TuneResult:
    """Quantize a trained float model and train its weights, biases, scales and zero points on samples without labels.

    The result is never worse than the quantized model that training began with, by the loss in the runtime on samples that
    were held back (a tenth); where it would be, that one is kept and a note says so.

    Args:
        model, data, recipe, target, out, preprocess, exclude, keep_names: as for `fewbit.quantize`.
        limit: how many samples to use (all).
        effort: of the quantization before the training.
        epochs: passes over the samples; 20 where neither they nor a time limit are given.
        block_updates: for each block, before the whole network learns; 0 for none. 300 where no time limit is given.
        time_limit: seconds, or `90s`, `15m`, `1.5h`, for everything: what fits is trained. The result then depends on the
            speed of the machine. With resume it is what this call may take, whatever was spent before.
        batch: samples an update. Those of models whose first axis is fixed run one by one, and their gradients add up.
        augment: so many further samples to learn from, made of those that are given: mixtures of inputs of floats, texts that
            a language model writes on.
        loss: instead of distillation, a callable or `FILE.py:NAME`: (outputs, float outputs, labels) → one number, with
            torch tensors by output name and the labels that the source yielded.
        session: a folder for checkpoints after every block and epoch. resume: go on from the one that is there.
        device: `auto` (CUDA where there is some), `cpu` or `cuda`.
        threads: of the runtime and of torch.

    Raises:
        InputError: model, data, recipe, output or checkpoint is wrong, or torch is not installed. No file is left.
        VerificationError: the runtime does not do what the plan says. No file is left.
    """
    started = time.monotonic()
    load_extra("torch", "Training")
    allowed = math.inf if time_limit is None else seconds(time_limit)
    for name, value in (("batch", batch), ("epochs", epochs)):
        if value is not None and value < 1:
            raise RecipeError(f"{name} must be at least 1, given {value}")
    for name, value in (("block_updates", block_updates), ("augment", augment)):
        if value is not None and value < 0:
            raise RecipeError(f"{name} must be at least 0, given {value}")
    if augment and loss is not None:
        raise RecipeError(
            f"augment {augment}: further samples have no labels for a loss of your own; leave one of the two out"
        )
    level = effort_named(effort)
    hub = load(open_models([model], ImportOptions(), None if is_synthetic(data) else data)[0])
    quantized = find_quantization(hub)
    if quantized is not None:
        raise ModelError(f"the model cannot be tuned: {quantized}; give the float model")
    check_weights(hub)
    chosen = target_for(target_name(target, None, out))
    check_runtime(chosen)
    check_output(out, model, format_of(chosen).suffix)
    source = calibration_source(
        data,
        hub,
        limit=limit,
        preprocess=preprocess,
        purpose="training",
        threads=threads,
        seed=seed,
        progress=progress,
        any_layout=is_litert(model),
    )
    wanted = Recipe.get(recipe).excluding(exclude)

    from fewbit.torchgraph import training
    from fewbit.torchgraph.augment import augment as augment_samples

    place = training.device_for(device)
    folder = _session(session, resume)
    identity = {
        "graph": hub.fingerprint(),
        "recipe": wanted.name,
        "rules": str(wanted.rules),
        "target": chosen.name,
        "batch": batch,
        "epochs": epochs,
        "block_updates": block_updates,
        "augment": augment,
        "seed": seed,
        "effort": effort,
    }
    reserve = 0.0 if math.isinf(allowed) else max(_RESERVE * allowed, _LEAST_RESERVE)
    deadline = started + allowed - reserve
    path = None if folder is None else folder / "checkpoint.safetensors"
    job = _Job(hub, place, batch, epochs, block_updates, seed, progress, deadline, identity, path)
    with training.threads(threads), training.gather(hub, source, _MEMORY, progress, threads) as samples:
        identity["samples"] = samples.fingerprint()
        start = _start(job, wanted, chosen, source, level, threads, resume)
        train, held = training.split(len(samples), _HELD_BACK, seed)
        given = len(samples)
        train += augment_samples(hub, samples, train, augment, seed, progress, threads)
        graph = training.prepare(hub, start, place)
        judged = training.loss_for(hub, samples, _user_loss(loss))
        course, blocks = _train(job, graph, samples, train, held, judged)
        plan = graph.plan()
        format = format_of(chosen)
        before, after = (
            training.runtime_loss(judged, format.session(format.lower(hub, p), threads), samples, held)
            for p in (start, plan)
        )
    if not after < before:
        job.notes.append(
            f"training did not help on the {len(held)} samples held back (loss {after:.4g}, before it {before:.4g}): the "
            "quantized model that it began with is kept; more samples or another seed may help"
        )
        plan, after = start, before
    result = quantize(
        hub,
        source,
        recipe,
        chosen,
        out,
        limit=limit,
        plan=plan,
        keep_names=keep_names,
        threads=threads,
        progress=progress,
    )
    if course.stopped:
        job.notes.append(f"training ended after {course.epoch} epochs: {course.stopped}; the best state is kept")
    return TuneResult(
        result, before, after, course.losses, blocks, given, len(held), job.notes, time.monotonic() - started
    )


def _start(
    job: _Job, recipe: Recipe, target: Target, source: DataSource, level: Effort, threads: int, resume: bool
) -> Plan:
    """The plan that training begins with; that of the session where one goes on."""
    from fewbit.torchgraph.checkpoint import Checkpoint

    path = None if job.checkpoint is None else job.checkpoint.parent / "start.plan.json"
    if resume and path is not None and job.checkpoint is not None and job.checkpoint.exists():
        plan = _started(path, job.hub)
        job.found = Checkpoint.load(job.checkpoint, job.identity)
        return plan
    some = open_source(source, inputs=hub_inputs(job.hub), limit=level.samples)
    plan = Calibrator(job.hub, target, threads, job.progress, level, some).plan(recipe)
    if not plan.edges() and not plan.constants():
        raise ModelError(f"recipe {recipe.name} quantizes nothing in this model, so there is nothing to train")
    if path is not None:
        plan.save(str(path))
        job.keep("start", {}, {})
    return plan


def _started(path: Path, hub: Hub) -> Plan:
    """The plan that the session of a graph began with. Raises PlanError for that of another."""
    plan = Plan.load(str(path))
    if plan.fingerprint != hub.fingerprint():
        raise PlanError(
            f"session {path.parent} is of another graph: its fingerprint is {plan.fingerprint[:12]}, the model's is "
            f"{hub.fingerprint()[:12]}; give its model, or another --session folder"
        )
    return plan


def _train(
    job: _Job, graph: QuantizedGraph, samples: Samples, train: Sequence[int], held: Sequence[int], loss: Loss
) -> tuple[Course, list[tuple[float, float]]]:
    """Reconstruct the blocks, then distill, with checkpoints; how the latter went, and the errors of blocks."""
    from fewbit.torchgraph.distill import Distiller, Rates

    timed = not math.isinf(job.deadline)
    distiller = Distiller(
        graph,
        samples,
        train,
        held,
        loss,
        epochs=job.epochs or (None if timed else DEFAULT_EPOCHS),
        batch=job.batch,
        rates=Rates(),
        seed=job.seed,
        patience=PATIENCE,
        device=job.device,
    )
    if job.found is not None and job.found.stage == "distill":
        distiller.restore(job.found.state, job.found.tensors)
        errors = [(before, after) for before, after in job.found.state["blocks"]]
    else:
        distiller.look()
        errors = _reconstruct(job, distiller)
        for layer in graph.layers.values():  # weights that lie between integers would move before gradients agree
            graph.settle(layer)
    if distiller.epochs is None and not timed:
        raise RecipeError(
            "the session was begun with a time limit, by which its rates fall: give --time, what it may still take"
        )

    def told(course: Course) -> None:
        state, tensors = distiller.state()
        job.keep("distill", {**state, "blocks": errors}, tensors)
        of = "" if distiller.epochs is None else f" of {distiller.epochs}"
        job.progress.note(f"epoch {course.epoch}{of}: loss {course.losses[-1]:.4g}")

    if distiller.epochs is None:
        seconds_left = max(1, int(job.deadline - time.monotonic()))
        with job.progress.task("training, seconds", seconds_left) as advance:
            return distiller.run(deadline=job.deadline, advance=_ticking(advance), after_epoch=told), errors
    left = (distiller.epochs - distiller.course.epoch) * distiller.steps_per_epoch
    with job.progress.task("training", left) as advance:
        return distiller.run(deadline=job.deadline, advance=advance, after_epoch=told), errors


def _ticking(advance: Callable[[int], None]) -> Callable[[int], None]:
    """Advances by the whole seconds that went by since it was last called, in place of the steps that it is told."""
    told = time.monotonic()

    def tick(_: int) -> None:
        nonlocal told
        whole = int(time.monotonic() - told)
        told += whole
        advance(whole)

    return tick


def _reconstruct(job: _Job, distiller: Distiller) -> list[tuple[float, float]]:
    """Reconstruct the blocks; the network is left in the better state, as its loss on the held-back samples is."""
    from fewbit.torchgraph.reconstruct import ReconstructionRates, Reconstructor

    deadline, left = math.inf, job.deadline - time.monotonic()
    updates = DEFAULT_UPDATES if job.updates is None else job.updates
    if not math.isinf(left):
        deadline = time.monotonic() + _BLOCK_SHARE * left
        if job.updates is None:
            fit = int(_BLOCK_SHARE * left / _step_time(distiller))
            updates = min(_MOST_UPDATES, fit) if fit >= _LEAST_UPDATES else 0
    if updates == 0:
        return []
    chosen = np.random.default_rng(job.seed).permutation(distiller.train)[:_BLOCK_SAMPLES].tolist()
    reconstructor = Reconstructor(
        distiller.model,
        distiller.samples,
        chosen,
        distiller.held[:_BLOCK_HELD],
        iterations=updates,
        loss=distiller.loss,
        batch=job.batch,
        rates=ReconstructionRates(),
        seed=job.seed,
        device=job.device,
    )
    if job.found is not None and job.found.stage == "blocks":
        reconstructor.restore(job.found.state, job.found.tensors)
    blocks = len(reconstructor.blocks)
    with job.progress.task("blocks", (blocks - len(reconstructor.errors)) * updates) as advance:

        def told() -> None:
            job.keep("blocks", *reconstructor.state())
            before, after = reconstructor.errors[-1]
            job.progress.note(f"block {len(reconstructor.errors)} of {blocks}: error {before:.4g}, then {after:.4g}")

        reconstructor.run(deadline=deadline, advance=advance, after_block=told)
    job.notes.extend(reconstructor.notes)
    distiller.look()
    return reconstructor.errors


def _step_time(distiller: Distiller) -> float:
    """Seconds that an update takes."""
    distiller.rehearse(1)
    begun = time.monotonic()
    distiller.rehearse(_WARM_STEPS)
    return (time.monotonic() - begun) / _WARM_STEPS


def _session(session: str | Path | None, resume: bool) -> Path | None:
    """The folder of checkpoints, made where it is not there."""
    if session is None:
        if resume:
            raise RecipeError("--resume goes on from a session: give its folder with --session")
        return None
    folder = Path(session)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"session folder {folder} cannot be made: {error.strerror}") from error
    if not resume and any(folder.iterdir()):
        raise OutputError(f"session folder {folder} is not empty: --resume goes on from it, or give another folder")
    return folder


def _user_loss(loss: str | Callable[..., Any] | None) -> Callable[..., Any] | None:
    if loss is None:
        return None
    made = load_callable(loss) if isinstance(loss, str) else loss
    return lambda *args: call_user_code(lambda: made(*args), f"loss {loss}")
