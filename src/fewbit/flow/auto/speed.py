"""Candidates of mixed precision by speed: layers in integers where their kernels gain, in float where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fewbit.flow.auto.mixed import literal
from fewbit.search.ladder import Candidate

FLOAT, INT8, DYNAMIC = "float", "int8", "int8-dynamic"
SPEED_FORMATS = (INT8, DYNAMIC)
"""Recipes that a layer may have beside float."""

MOST_MIXTURES = 3
"""That are evaluated."""

WORTH_IT = 1.03
"""Over the speed of the best candidate: less is within the error of the table."""

TARGETS = ("ort-cpu", "ort-cpu-avx2", "ort-cpu-vnni", "litert-cpu")
"""Those whose files can be cut into kernels that this machine's times say something of."""

_COMPUTE: Mapping[str, str] = MappingProxyType({FLOAT: "float", DYNAMIC: "dynamic"})
_NAME = "mixed-fast"


def mixture_recipe(name: str, formats: Mapping[str, str]) -> dict[str, Any]:
    """A recipe file's content: int8, but for nodes in `float` or `int8-dynamic`, by their exact names."""
    rules = [{"match": {"name": literal(node)}, "compute": _COMPUTE[form]} for node, form in formats.items()]
    return {"name": name, "base": INT8, "rules": rules}


def speed_candidates(found: Mapping[str, Any], recipe: Any, measured: float) -> list[Candidate]:
    """Mixtures that the table foretells to be clearly faster than the best candidate so far, the fastest first.

    Args:
        found: what `costs` gave. recipe: of the best candidate so far. measured: its speed over the float model's, which
            counts where the table does not know its recipe.
    """
    uniform = found["uniform"]
    known = isinstance(recipe, str) and recipe in uniform
    bar = (uniform[FLOAT] / uniform[recipe] if known else measured) * WORTH_IT
    candidates: list[Candidate] = []
    for mixture in found["mixtures"]:
        speed, counts = uniform[FLOAT] / mixture["milliseconds"], mixture["counts"]
        if speed < bar or not mixture["formats"] or sum(1 for count in counts.values() if count) < 2:
            continue
        name = _NAME if not candidates else f"{_NAME}-{len(candidates) + 1}"
        layers = ", ".join(f"{count} layers {form}" for form, count in counts.items() if count)
        candidates.append(
            Candidate(
                name,
                "allocation",
                mixture_recipe(name, mixture["formats"]),
                f"the times of its kernels foretell ×{speed:.2f} of the float model's speed "
                f"(int8: ×{uniform[FLOAT] / uniform[INT8]:.2f}): {layers}",
            )
        )
    return candidates[:MOST_MIXTURES]
