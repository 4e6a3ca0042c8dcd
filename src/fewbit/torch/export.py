"""A trained module as a model file, checked against what was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fewbit.errors import RecipeError, VerificationError
from fewbit.flow.common import hub_inputs
from fewbit.flow.formats import format_of
from fewbit.flow.quantize import QuantizeResult, check_output, finish
from fewbit.flow.verification import VERIFY_SAMPLES
from fewbit.formats.torch.modules import evaluated
from fewbit.measure.compare import OutputComparison
from fewbit.runtimes.table import open_model
from fewbit.targets import get_target
from fewbit.torch.prepared import PreparedModule, prepared_part
from fewbit.torch.samples import source_of
from fewbit.torchgraph.write_back import write_back

_LEAST_AGREEMENT = 20.0
"""dB that a runtime must keep of what was trained. Rounding of sums in another order costs far less (docs/qat.md has what
was measured); a scale or layout that is wrong leaves next to nothing."""


def export(
    module: nn.Module, out: str | Path | None = None, format: str | None = None, *, data: Any = None
) -> QuantizeResult:
    """Write the quantized model with what was trained, and check it in the runtime.

    The result is that of `fewbit.quantize`. Its comparison is with the float model whose weights are the trained ones as
    rounded; a note says how well the runtime agrees with the module itself.

    Args:
        module: what `prepare` gave, or a module that holds it.
        out: file to write; None returns the model without writing it.
        data: samples to check with, as in `prepare`; None: the one that the module keeps.

    Raises:
        ModelError: there is no prepared module.
        RecipeError: a format that is not the one of the target.
        OutputError: the file cannot be written.
        VerificationError: the runtime computes something else than the module. No file is left.
    """
    part = prepared_part(module)
    hub, plan = write_back(part.quantized)
    target = get_target(plan.target)
    if format is not None and format != target.format:
        raise RecipeError(
            f"format {format!r}: the module was prepared for target {target.name}, which takes {target.format}; prepare it "
            "for another target"
        )
    written = format_of(target)
    check_output(out, None, written.suffix)
    source = source_of([part.sample] if data is None else data, hub_inputs(hub), VERIFY_SAMPLES)
    samples = list(source.feeds())

    def agreement(path: Path) -> list[str]:
        return [_agreement(compared) for compared in against_runtime(part, path, samples)]

    return finish(hub, plan, written.lower(hub, plan), target, source, out, check=agreement)


def against_runtime(
    module: PreparedModule, path: str | Path, samples: Sequence[Mapping[str, np.ndarray[Any, Any]]]
) -> list[OutputComparison]:
    """Each output of an exported model in its runtime against the module in evaluation mode, which counts as the signal."""
    session = open_model(path)
    names = module.quantized.graph.output_names
    compared = [OutputComparison(name) for name in names]
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    for sample in samples:
        with torch.no_grad(), evaluated(module):
            feed = {name: torch.from_numpy(np.array(array)).to(device) for name, array in sample.items()}
            expected = module.quantized(**feed)
        for comparison, ours, theirs in zip(compared, expected, session.run(sample), strict=True):
            comparison.update(ours.cpu().numpy(), theirs)
    return compared


def _agreement(output: OutputComparison) -> str:
    """A note about one output. Raises VerificationError where the two differ."""
    if output.sqnr < _LEAST_AGREEMENT or output.nonfinite:
        raise VerificationError(
            f"output {output.name} of the exported model keeps {output.sqnr:.1f} dB of what the module gives, where rounding "
            f"leaves at least {_LEAST_AGREEMENT:.0f}; compare them on samples of your own with export(..., data=)"
        )
    return f"output {output.name}: the runtime keeps {output.sqnr:.1f} dB of the trained module"
