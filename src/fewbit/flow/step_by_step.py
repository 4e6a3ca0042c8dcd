"""A file beside what its plan means, from one rounding of floats to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.errors import DataError, ModelError
from fewbit.flow.formats import Details, ModelFormat
from fewbit.formats.onnx.roundings import rounded_floats, with_given, with_outputs
from fewbit.measure.compare import OutputComparison
from fewbit.runtimes.session import Session
from fewbit.runtimes.table import Runtime


def compare_step_by_step(
    format: ModelFormat,
    runtime: Runtime,
    lowered: ir.Model,
    path: Path,
    feeds: Sequence[Mapping[str, NDArray[Any]]],
    details: Details,
    quantized: Session,
) -> list[OutputComparison]:
    """Each output against what the plan means, and each float that is rounded, where the simulation is given those that the
    runtime rounds; empty where it rounds none, or where no file can be written that tells them.

    Args:
        path: of the file; one that gives these floats too is written beside it for a moment.
        quantized: the file.
    """
    names = [name for name in rounded_floats(lowered) if name not in {v.name for v in lowered.graph.outputs}]
    if not names:
        return []
    beside = path.with_name(f"steps-{path.name}")
    try:
        format.write(with_outputs(lowered, names), beside, details)
        telling = runtime.open_session(beside)
        told = [telling.run(feed)[len(lowered.graph.outputs) :] for feed in feeds]
    except (ModelError, DataError):  # of a value that the format has no output for
        return []
    finally:
        beside.unlink(missing_ok=True)
    simulated = format.session(with_given(lowered, names))
    comparisons = [OutputComparison(str(value.name)) for value in lowered.graph.outputs]
    comparisons += [OutputComparison(name) for name in names]
    for feed, floats in zip(feeds, told, strict=True):
        meant = simulated.run({**feed, **dict(zip(names, floats, strict=True))})
        for comparison, a, b in zip(comparisons, meant, [*quantized.run(feed), *floats], strict=True):
            comparison.update(a, b)
    return comparisons
