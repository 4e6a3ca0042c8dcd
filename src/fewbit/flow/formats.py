"""The file formats that a plan can be written in: an explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import onnx_ir as ir

from fewbit.errors import DataError, RecipeError
from fewbit.formats.litert.kinds import LiteRTMetadata
from fewbit.formats.onnx.ends import with_integer_ends
from fewbit.formats.onnx.exact import with_integer_arithmetic
from fewbit.formats.onnx.lower import lower
from fewbit.formats.onnx.plain import lower_plain
from fewbit.graph.atomic import atomic_files
from fewbit.graph.hub import Hub
from fewbit.graph.save import save
from fewbit.plan.plan import Plan
from fewbit.runtimes.onnxruntime import SIMULATION, OrtSession, open_session
from fewbit.targets import Target


@dataclass(frozen=True, slots=True)
class Details:
    """What a writer may need besides the model.

    shapes: input → sizes, of a sample. metadata: of the file that the model came from. dynamic: the nodes whose activations
        are quantized as they run. keep_names: whether inner nodes and values keep their names.
    """

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    metadata: LiteRTMetadata | None = None
    dynamic: frozenset[str] = frozenset()
    keep_names: bool = False


@dataclass(frozen=True, slots=True)
class ModelFormat:
    """A file format.

    suffix: of its files. target: the one that is meant where the format alone is given.
    lower: a plan of a hub as an ONNX graph. write: writes that graph as a file, and gives notes on how the file differs.
    integer_ends: makes of the ends of such a graph their integers, and gives notes on those that stay floats; None where files
        of the format have none.
    simulate: what makes of that graph one with the arithmetic of the format's runtime, for ONNX Runtime to compute as it is
        written; None where ONNX Runtime is that runtime.
    """

    name: str
    suffix: str
    target: str
    lower: Callable[[Hub, Plan], ir.Model]
    write: Callable[[ir.Model, Path, Details], tuple[str, ...]]
    simulate: Callable[[ir.Model], ir.Model] | None
    integer_ends: Callable[[ir.Model], tuple[ir.Model, tuple[str, ...]]] | None = None

    def session(self, lowered: ir.Model, threads: int = 1) -> OrtSession:
        """A session of a lowered plan: in the runtime that it is meant for if that is ONNX Runtime, else simulated there."""
        if self.simulate is None:
            return open_session(lowered, threads=threads)
        # Not optimized: factors that are multiplied into weights would make sums of fractions of what are sums of integers.
        return open_session(self.simulate(lowered), threads=threads, config=SIMULATION, optimize=False)


def _write_onnx(model: ir.Model, path: Path, details: Details) -> tuple[str, ...]:
    save(model, path, compact=not details.keep_names)
    return ()


def _write_litert(model: ir.Model, path: Path, details: Details) -> tuple[str, ...]:
    from fewbit.formats.litert.write import convert

    shapes = _open_sizes(model, details, first=1)
    written = convert(
        model, shapes=shapes, metadata=details.metadata, hybrid=details.dynamic, keep_names=details.keep_names
    )
    with atomic_files(path) as (file,):
        file.write(written.data)
    return (*written.notes, *_fixed_note(shapes))


def _write_executorch(model: ir.Model, path: Path, details: Details) -> tuple[str, ...]:
    from fewbit.formats.executorch.door import convert

    shapes = _open_sizes(model, details, first=0)
    written = convert(model, shapes=shapes, dynamic=details.dynamic)
    with atomic_files(path) as (file,):
        file.write(written.data)
    return (*written.notes, *_fixed_note(shapes))


def check_sizes(format: ModelFormat, hub: Hub, *, sampled: bool) -> None:
    """Raise DataError for open sizes that nothing tells, where a format's files have fixed ones.

    Args:
        sampled: whether there are samples, of which the first tells them.
    """
    for info in hub.inputs if format.simulate is not None and not sampled else ():
        if any(not isinstance(size, int) for size in (info.shape or ())[1:]):
            raise DataError(
                f"input {info.name} {list(info.shape or ())} has open sizes, and a {format.suffix} file has fixed ones: "
                "give --data, whose first sample tells them"
            )


def _fixed_note(shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """What a user of the file must know of sizes that were open."""
    if not shapes:
        return ()
    told = ", ".join(f"{name} {list(sizes)}" for name, sizes in shapes.items())
    return (f"open sizes are fixed in the file, to those of the first sample: {told}",)


def _open_sizes(model: ir.Model, details: Details, first: int) -> dict[str, Sequence[int]]:
    """Sizes, those of the sample, of the inputs that have an open one from the axis `first` on."""
    inputs = [info for info in Hub(model).inputs if any(not isinstance(n, int) for n in (info.shape or ())[first:])]
    return {info.name: details.shapes[info.name] for info in inputs if info.name in details.shapes}


FORMATS: Mapping[str, ModelFormat] = MappingProxyType(
    {
        format.name: format
        for format in (
            ModelFormat("onnx", ".onnx", "ort-cpu", lower, _write_onnx, None),
            ModelFormat(
                "litert",
                ".tflite",
                "litert-cpu",
                lower_plain,
                _write_litert,
                with_integer_arithmetic,
                with_integer_ends,
            ),
            ModelFormat(
                "executorch", ".pte", "executorch-xnnpack", lower_plain, _write_executorch, with_integer_arithmetic
            ),
        )
    }
)


def format_of(target: Target) -> ModelFormat:
    """The format that a target's files have."""
    return FORMATS[target.format]


def target_name(target: str | Target | None, format: str | None, out: str | Path | None) -> str | Target:
    """The target that is meant: the one that is given, else that of the format, else that of the file's ending.

    Raises:
        RecipeError: no such format, or the target writes another one.
    """
    if format is not None and format not in FORMATS:
        raise RecipeError(f"format {format!r} does not exist; use {', '.join(FORMATS)}")
    if target is not None:
        return target
    if format is not None:
        return FORMATS[format].target
    suffix = Path(out).suffix.lower() if out is not None else ""
    return next((f.target for f in FORMATS.values() if f.suffix == suffix), FORMATS["onnx"].target)
