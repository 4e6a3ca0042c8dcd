"""From a float model to a module whose quantization is trained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from fewbit.data import DataSource
from fewbit.errors import DataError
from fewbit.flow.calibrate import Calibrator
from fewbit.flow.common import hub_inputs, is_synthetic, target_for
from fewbit.flow.opening import import_notes, load
from fewbit.flow.quantize import check_float, check_sites, effort_named
from fewbit.flow.synthetic import calibration_source
from fewbit.graph.hub import Hub
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT, Progress
from fewbit.torch.interface import Interface
from fewbit.torch.prepared import PreparedModule
from fewbit.torch.samples import source_of

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def prepare(
    model: nn.Module | str | Path | onnx.ModelProto | ir.Model | Hub,
    example_inputs: Any = None,
    recipe: str | Path | Recipe | Mapping[str, Any] = "int8",
    target: str = "ort-cpu",
    data: Any = None,
    *,
    effort: str = "standard",
    dynamic_shapes: Any = None,
    limit: int | None = None,
    exclude: Sequence[str] = (),
    threads: int = 1,
    progress: Progress = SILENT,
) -> PreparedModule:
    """A module that computes what the quantized model will, and can be trained like any other.

    It begins where `fewbit.quantize` ends: with calibrated ranges, balanced channels, rounded weights and corrected biases.
    No layer is put back to float, for training mends what repair would give up. The model given is not changed.

    Args:
        model: a module of PyTorch, or a model file or object that `fewbit.load` takes.
        example_inputs, dynamic_shapes: how a module is exported; see `fewbit.load`.
        recipe, target, effort, limit, exclude: as in `fewbit.quantize`. Codebooks and 8- or 16-bit floats stay as they are
            rounded here; only what reads and follows them learns.
        data: calibration samples as `fewbit.quantize` takes them ("synthetic" too), or a tensor, or a loader of batches.
            Without any the example inputs serve, with a warning.

    Raises:
        ModelError: the model cannot be exported or quantized, or the torch executor lacks an operator of it.
        DataError: neither samples nor example inputs, or they do not fit.
        RecipeError: a recipe, target or effort that does not exist.
    """
    chosen, level = target_for(target), effort_named(effort)
    is_module = isinstance(model, nn.Module)
    hub = load(model, example_inputs=example_inputs if is_module else None, dynamic_shapes=dynamic_shapes)
    check_float(hub, model)
    interface = Interface.of_module(model, example_inputs, hub) if is_module else Interface.of_graph(hub)  # type: ignore[arg-type]
    if is_synthetic(data):
        source = calibration_source(
            data,
            hub,
            limit=limit,
            most=level.samples,
            preprocess=None,
            purpose="calibration",
            threads=threads,
            progress=progress,
        )
        notes: list[str] = []
    else:
        source, notes = _source(hub, interface, example_inputs, data, limit or level.samples)
    plan = Calibrator(hub, chosen, threads, progress, level, source).plan(Recipe.get(recipe).excluding(exclude))
    check_sites(plan, model)
    plan = replace(plan, notes=(*plan.notes, *import_notes(hub), *notes))
    return PreparedModule(hub, plan, interface, next(source.feeds()))


def _source(hub: Hub, interface: Interface, example: Any, data: Any, limit: int | None) -> tuple[DataSource, list[str]]:
    inputs = hub_inputs(hub)
    if data is not None:
        return source_of(data, inputs, limit), []
    if example is None:
        raise DataError("prepare needs samples to choose ranges from: give data=, or example_inputs=")
    note = "ranges were chosen from the example inputs alone: give data=, for the ranges that the example lacks"
    warnings.warn(note, stacklevel=3)
    feed = dict(zip((info.name for info in inputs), interface.example(example), strict=True))
    return source_of([feed], inputs, limit), [note]
