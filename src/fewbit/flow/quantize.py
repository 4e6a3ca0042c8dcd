"""Quantize a model: load → resolve → calibrate → choose ranges → scale weights → correct biases → export → verify."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.data import DataSource
from fewbit.errors import DataError, ModelError, OutputError, PlanError, RecipeError
from fewbit.flow.calibrate import EFFORTS, Calibrator, Effort
from fewbit.flow.common import check_runtime, is_synthetic, target_for
from fewbit.flow.formats import check_sizes, format_of, target_name
from fewbit.flow.opening import ImportOptions, import_notes, open_models
from fewbit.flow.repair import repair
from fewbit.flow.synthetic import calibration_source
from fewbit.flow.verification import RANDOM, SLOWER, Verification, details_for, verified
from fewbit.formats.litert.kinds import is_litert
from fewbit.formats.onnx.emit import check_plan_of
from fewbit.graph.hub import Hub
from fewbit.graph.load import check_weights, find_quantization, load
from fewbit.graph.weightless import heavy_inside, why_weightless
from fewbit.measure.compare import finite_or_none
from fewbit.plan.integers_only import check_integers_only
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.plan.rewrites import rewritten
from fewbit.progress import SILENT, Progress
from fewbit.report.words import counts
from fewbit.stages.saturation import Saturation, saturation
from fewbit.targets import Target

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

IO = ("float", "int8")
"""What a file takes and gives."""


@dataclass(frozen=True, slots=True)
class QuantizeResult:
    """A quantized model and the evidence about it."""

    path: Path | None
    model: ir.Model = field(repr=False)
    plan: Plan = field(repr=False)
    float_bytes: int
    bytes: int
    verification: Verification | None
    saturated: Sequence[Saturation]
    notes: Sequence[str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        left = Counter(f"{n.op}: {n.reason}" for n in self.plan.nodes.values() if n.form == "float" and n.weight)
        return {
            "path": None if self.path is None else str(self.path),
            "recipe": self.plan.recipe,
            "target": self.plan.target,
            "fingerprint": self.plan.fingerprint,
            "forms": dict(self.plan.forms()),
            "float_bytes": self.float_bytes,
            "bytes": self.bytes,
            "smaller": finite_or_none(1 - self.bytes / self.float_bytes if self.float_bytes else None),
            "calibration": dict(self.plan.calibration),
            "left_in_float": dict(left),
            "verification": None if self.verification is None else self.verification.to_dict(),
            "saturated": [s.to_dict() for s in self.saturated],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def quantize(
    model: str | Path | onnx.ModelProto | ir.Model | Hub | Any,
    data: Any = None,
    recipe: str | Path | Recipe | Mapping[str, Any] = "int8",
    target: str | Target | None = None,
    out: str | Path | None = None,
    *,
    format: str | None = None,
    limit: int | None = None,
    preprocess: str | None = None,
    batch: int | None = None,
    effort: str = "standard",
    plan: str | Path | Plan | None = None,
    exclude: Sequence[str] = (),
    keep_names: bool = False,
    verify: bool = True,
    min_sqnr: float | None = None,
    threads: int = 1,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    factory: str | Callable[[], Any] | None = None,
    allow_pickle: bool = False,
    signature: str | None = None,
    io: str | None = None,
    progress: Progress = SILENT,
) -> QuantizeResult:
    """Quantize a trained float model and check the result in the runtime.

    Args:
        model: path of a model file, or a model in memory: ONNX, PyTorch (docs/pytorch.md), or a LiteRT file (docs/litert.md).
        data: calibration samples: a path, `FILE.py:NAME(...)`, arrays or an iterable of feeds (docs/data.md). Recipes
            without static activation ranges do not need any. `"synthetic"`: there are none, and some are made for this model
            (docs/synthetic.md); plan and result say so.
        recipe: a built-in name, a YAML or JSON file, or rules as a dictionary.
        target: where the model will run; `fewbit targets list` shows the names. None: what the format is for.
        out: file to write; None returns the model without writing it.
        format: of the file: `onnx`, `litert` or `executorch`. None: that of the target, or else of the ending of `out`.
        limit: how many samples to use (by effort: 32, 128, all), or to make (64, fewer for large models).
        batch: how many samples may run at once during calibration, where the model's first axis counts samples (None: 8); the
            statistics are those of one by one. The plan's `calibration` says how many did, and why no more.
        effort: `fast`, `standard` or `max`: samples, and whether layers to blame are searched for.
        plan: a plan made before, perhaps edited: its decisions and numbers are used as they are.
        exclude: op types or name patterns to leave in float.
        keep_names: keep the names of inner nodes and values, which take space, in the file.
        min_sqnr: dB that every output must keep against float on a few samples; nodes go back to float until it does.
            None: 20 dB, as long as the nodes that go back do at most a quarter of the work; otherwise the result says
            which they are. 0 leaves everything as the recipe says.
        verify: load and run the result, and compare it with the float model.
        example_inputs, dynamic_shapes, factory, allow_pickle: how a PyTorch model is imported; see `fewbit.load`. Without
            example inputs the first sample of the data serves.
        signature: which one of a LiteRT file; see `fewbit.load`.
        io: what a LiteRT file takes and gives: `float`, or `int8`: the stored integers (16 bits in a16w8), with their scales
            in the file. None: float, or integers for a target that has nothing else.

    Raises:
        InputError: the model, data, recipe or output is wrong; says what and how to mend it. No file is left.
        VerificationError: the runtime does not do what the plan says. No file is left.
    """
    started = time.perf_counter()
    importing = ImportOptions(example_inputs, dynamic_shapes, factory, allow_pickle, signature)
    hub = load(open_models([model], importing, None if is_synthetic(data) else data)[0])
    check_float(hub, model)
    chosen, level = target_for(target_name(target, format, out)), effort_named(effort)
    if format is not None and format != chosen.format:
        raise RecipeError(f"target {chosen.name} writes {chosen.format}, not {format}; leave one of the two out")
    check_runtime(chosen)
    check_output(out, model, format_of(chosen).suffix)
    integer_ends = wants_integer_ends(io, chosen)
    if min_sqnr and chosen.integers_only:
        raise RecipeError(
            f"min-sqnr {min_sqnr:g} returns layers to float, which {chosen.name} does not have; leave it out, or use recipe "
            "a16w8"
        )
    check_sizes(format_of(chosen), hub, sampled=data is not None)
    source = None
    if data is not None:
        source = calibration_source(
            data,
            hub,
            limit=limit,
            most=level.samples,
            preprocess=preprocess,
            purpose="calibration",
            threads=threads,
            progress=progress,
            any_layout=is_litert(model),
        )
    if batch is not None and batch < 1:
        raise DataError(f"batch {batch} holds no sample; give at least 1")
    job = Calibrator(hub, chosen, threads, progress, level, source, batch)
    if plan is not None:
        resolved = plan if isinstance(plan, Plan) else Plan.load(str(plan))
        _check_plan(resolved, hub, chosen)
    else:
        wanted = Recipe.get(recipe).excluding(exclude)
        resolved = job.plan(wanted)
        if resolved.edges() and min_sqnr != 0 and job.effort.noise_samples:
            resolved = repair(job, wanted, resolved, min_sqnr, check_answers=verify)
    check_sites(resolved, model)
    saturated = saturation(resolved, job.stats)
    result = finish(
        hub,
        resolved,
        job.lower(resolved),
        chosen,
        source,
        out,
        model=model,
        signature=signature,
        keep_names=keep_names,
        verify=verify,
        integer_ends=integer_ends,
    )
    return replace(
        result,
        float_bytes=float_bytes(model, hub),
        saturated=saturated,
        notes=[*import_notes(hub), *result.notes],
        seconds=time.perf_counter() - started,
    )


def finish(
    hub: Hub,
    plan: Plan,
    exported: ir.Model,
    target: Target,
    source: DataSource | None,
    out: str | Path | None,
    *,
    model: Any = None,
    signature: str | None = None,
    keep_names: bool = False,
    verify: bool = True,
    integer_ends: bool | None = None,
    check: Callable[[Path], Sequence[str]] = lambda path: (),
) -> QuantizeResult:
    """Write what a plan was lowered to beside its destination, verify it there, and give it its name.

    model: what the hub was loaded from, and its signature; what its file says of labels and normalization goes on, in a format
        that holds it.
    integer_ends: whether the file takes and gives integers; None: where the target has nothing else.
    check: looks at the file too, and gives notes.

    Raises:
        VerificationError: the runtime does not do what the plan says, or what `check` raises. No file is left.
        OutputError: the file cannot be written.
    """
    started = time.perf_counter()
    with _staging(out) as folder:
        format = format_of(target)
        staged = Path(folder) / (Path(out).name if out is not None else f"model{format.suffix}")
        details = details_for(format, hub, plan, source, model, keep_names=keep_names, signature=signature)
        wanted = target.integers_only if integer_ends is None else integer_ends
        turned = format.integer_ends(exported) if wanted and format.integer_ends is not None else (exported, ())
        written = (*format.write(turned[0], staged, details), *turned[1])
        verification = verified(hub, plan, format, exported, staged, source, details, target) if verify else None
        checked = check(staged)
        size = sum(p.stat().st_size for p in Path(folder).iterdir())
        if out is not None:
            _publish(Path(folder), Path(out))
    return QuantizeResult(
        None if out is None else Path(out),
        exported,
        plan,
        float_bytes(None, hub),
        size,
        verification,
        (),
        [*written, *_inside(hub), *_notes(plan, target, verification), *_memory(size, verification), *checked],
        time.perf_counter() - started,
    )


def check_float(hub: Hub, model: Any) -> None:
    """Raise ModelError for a model that is quantized already, that has no weights, or whose weights are no numbers."""
    quantized = find_quantization(hub)
    if quantized is not None:
        raise ModelError(f"{_name(model)} cannot be quantized: {quantized}; give the float model")
    weightless = why_weightless(hub)
    if weightless is not None:
        raise ModelError(f"{_name(model)} cannot be quantized: {weightless}")
    check_weights(hub)


def effort_named(name: str) -> Effort:
    """The effort of a name. Raises RecipeError when there is none."""
    if name not in EFFORTS:
        raise RecipeError(f"effort {name!r} does not exist; use {', '.join(EFFORTS)}")
    return EFFORTS[name]


def check_sites(plan: Plan, model: Any) -> None:
    """Raise ModelError for a plan that quantizes nothing."""
    if not plan.edges() and not plan.constants():
        why = Counter(f"{n.op}: {n.reason}" for n in plan.nodes.values()).most_common(1)
        raise ModelError(
            f"{_name(model)} has nothing to quantize with recipe {plan.recipe}: {why[0][0] if why else 'no nodes'}"
        )


def wants_integer_ends(io: str | None, target: Target) -> bool:
    """Whether the ends of a target's files are to be integers.

    Raises:
        RecipeError: no such ends, or the target's files have none.
    """
    if io is None:
        return target.integers_only
    if io not in IO:
        raise RecipeError(f"io {io!r} does not exist; use {' or '.join(IO)}")
    if io == "int8" and format_of(target).integer_ends is None:
        raise RecipeError(
            f"io int8 is for LiteRT files, whose tensors carry their scales; an {target.format} file for {target.name} would "
            "take integers without saying what they stand for: leave it out, or use --format litert"
        )
    return io == "int8"


def _memory(size: int, verification: Verification | None) -> list[str]:
    """What a file takes on a microcontroller."""
    if verification is None or verification.arena is None:
        return []
    return [
        f"flash: {size} bytes, the file; RAM: about {verification.arena} bytes of arena for activations, and what kernels and "
        "the interpreter need for themselves"
    ]


def speed_note(plan: Plan, target: Target, verification: Verification | None) -> str | None:
    """What a quick look says where nothing is gained in speed."""
    latency = None if verification is None else verification.latency
    if latency is not None and latency.ratio < SLOWER:
        stored = "" if target.stores == () else "; `int8-weights` and `fp16` keep the float speed"
        return f"slower than float here (×{latency.ratio:.2f} on one thread): quantized for size only{stored}"
    if latency is not None and latency.ratio < 1 / SLOWER and plan.forms()["integer"]:
        return f"no faster than float here (×{latency.ratio:.2f} on one thread): the gain is in size"
    return None


def _inside(hub: Hub) -> list[str]:
    """What no plan tells of, as it is not in the main graph."""
    heavy = heavy_inside(hub)
    if not heavy:
        return []
    return [f"inside of loops and conditions {counts(heavy)} stay in float: the main graph alone is quantized"]


def _notes(plan: Plan, target: Target, verification: Verification | None) -> list[str]:
    """What a user should know about this result, shortest first."""
    notes, facts = list(plan.notes), target.facts
    forms = plan.forms()
    if plan.recipe in ("a16w8", "w4a16"):
        notes += [fact for fact in facts if fact.startswith("16-bit")]
    if any(n.form == "weight_only" and n.op != "Gather" for n in plan.nodes.values()):
        notes += [fact for fact in facts if fact.startswith("weights in `weight_only`")]
    if forms["storage"] and not forms["integer"] and not forms["dynamic"]:
        notes += [fact for fact in facts if fact.startswith("weights in `storage`")]
    speed = speed_note(plan, target, verification)
    notes += [] if speed is None else [speed]
    if verification is not None and verification.inputs != RANDOM:
        for output in verification.outputs:
            if output.signal and output.sqnr < 10.0:
                notes.append(
                    f"output {output.name} has only {output.sqnr:.1f} dB against float: run `fewbit compare` to see where "
                    "the error arises, and `fewbit eval` before shipping"
                )
    return notes


def _check_plan(plan: Plan, hub: Hub, target: Target) -> None:
    check_plan_of(hub, plan)
    if plan.target != target.name:
        raise PlanError(f"the plan is for target {plan.target}, not {target.name}; give --target {plan.target}")
    check_integers_only(rewritten(hub, plan.rewrites), plan, target)


def check_output(out: str | Path | None, model: Any, suffix: str = ".onnx") -> None:
    """Fail before the work, not after it."""
    if out is None:
        return
    path = Path(out)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file name in it")
    if isinstance(model, str | Path) and path.exists() and path.samefile(model):
        raise OutputError(f"{path} is the model itself; give another name, so that the float model is kept")
    if path.suffix not in (suffix, ""):
        raise RecipeError(f"output {path} has the ending {path.suffix}; this target writes {suffix}")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission in {path.parent}")


class _staging:  # noqa: N801 - a context manager, used as a function
    """A folder beside the output where it is made and verified before it gets its name."""

    def __init__(self, out: str | Path | None) -> None:
        self.parent = None if out is None else Path(out).parent

    def __enter__(self) -> str:
        try:
            self.folder = tempfile.mkdtemp(prefix=".fewbit-", dir=self.parent)
        except OSError as error:
            raise OutputError(f"{self.parent} cannot be written: {error.strerror}") from error
        return self.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _publish(folder: Path, out: Path) -> None:
    """Rename the files into place, the model last."""
    try:
        for path in sorted(folder.iterdir(), key=lambda p: p.name == out.name):
            os.replace(path, out.parent / path.name)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error


def float_bytes(model: Any, hub: Hub) -> int:
    """What a float model takes: its file with its external data, or the weights of one in memory."""
    if isinstance(model, str | Path) and Path(model).is_file():
        path = Path(model)
        external = {
            getattr(v.const_value, "path", None) for v in hub.graph.initializers.values() if v.const_value is not None
        }
        return path.stat().st_size + sum(Path(p).stat().st_size for p in external if p and Path(p).exists())
    return sum(v.const_value.nbytes for v in hub.graph.initializers.values() if v.const_value is not None)


def _name(model: Any) -> str:
    return str(model) if isinstance(model, str | Path) else "the model"
