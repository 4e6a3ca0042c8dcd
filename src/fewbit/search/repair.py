"""What may give a candidate its accuracy back, cheap things first: before layers go to higher precision, or are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fewbit.search.ladder import Candidate

_BETTER = (6.0, 12.0)  # dB: half and a quarter of the noise
_MOST = 60.0  # dB: beyond it answers do not change


_PASSES = 150  # over the samples, in runs of the float model: 20 epochs forward and back, and blocks before them


def trained(candidate: Candidate) -> Candidate:
    """The same, with its weights and ranges trained on the float model's outputs."""
    return replace(
        candidate,
        id=f"{candidate.id}+tune",
        stage="tune",
        effort="standard",
        min_sqnr=None,
        why=f"{candidate.id} trained on the float model's outputs, for nothing cheaper gave it its accuracy back",
        options={"tune": True},
    )


def training_seconds(samples: int, milliseconds: float) -> float:
    """About how long training takes, by the float model's time for one sample."""
    return _PASSES * samples * milliseconds / 1000.0


def repairs(candidate: Candidate, built: Mapping[str, Any] | None, *, to_float: bool) -> list[Candidate]:
    """Candidates that keep more of the float model than one that did not keep enough.

    First more effort (all samples, weights rounded by the outputs of their layers, every way to choose ranges), then layers to
    blame in float until the outputs are 6 and 12 dB better.

    Args:
        built: what building it gave.
        to_float: whether layers may go back to float, which takes space.
    """
    found = []
    if candidate.effort != "max" and (built is None or built["can_learn"]):  # else there is nothing to round otherwise
        found.append(
            replace(
                candidate,
                id=f"{candidate.id}@max",
                stage="repair",
                effort="max",
                why=f"{candidate.id} with all samples, and weights rounded by the outputs of their layers",
            )
        )
    integers = built is not None and built["forms"].get("integer")  # others compute in float as it is
    reached = built["sqnr_db"] if built is not None and integers and to_float else None
    for better in _BETTER:
        if reached is None or reached + better > _MOST or candidate.min_sqnr is not None:
            break
        wanted = float(round(reached + better))
        found.append(
            replace(
                candidate,
                id=f"{candidate.id}>{wanted:g}dB",
                stage="repair",
                effort="max",
                min_sqnr=wanted,
                why=f"{candidate.id} with as many layers in float as it takes for {wanted:g} dB",
            )
        )
    return found
