"""Candidates of mixed precision: for each layer the format that the allocation gave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fewbit.plan.recipe import RECIPES, Rule
from fewbit.search.allocation import Assignment, Layer, Pair, sweep
from fewbit.search.ladder import Candidate

_STEPS = 13  # of the sweep: about 3 dB each, which bisection finds its way through in 4 evaluations

FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ort-cpu": ("fp16", "int8-weights", "codebook4", "codebook3"),
        "litert-cpu": ("fp16", "int8-weights", "int4-weights"),
        # Nothing is expanded to float there: layers that have no kernel of 4 bits stay integers of 8.
        "executorch-xnnpack": ("int8", "int4-weights"),
    }
)
"""Target → the recipes of which each layer gets one where size counts, the widest first, which is that of what has no rule."""


def mixed_candidates(
    found: Sequence[Mapping[str, Any]], formats: Sequence[str], pairs: Sequence[Mapping[str, Any]] = ()
) -> list[Candidate]:
    """Candidates along the frontier of size and noise, the smallest first.

    found, pairs: what `sensitivity` gave. A layer that has not all formats keeps to those it has.
    """
    held = [[name for name in formats if name in layer["formats"]] for layer in found]
    layers = [
        Layer(
            layer["name"],
            tuple(float(layer["formats"][name]["bytes"]) for name in names),
            tuple(float(layer["formats"][name]["noise"]) for name in names),
        )
        for layer, names in zip(found, held, strict=True)
    ]
    if all(len(names) < 2 for names in held):
        return []  # one format has no mixtures
    places = {
        (layer["name"], name): (i, j)
        for i, (layer, names) in enumerate(zip(found, held, strict=True))
        for j, name in enumerate(names)
    }
    ends = [(tuple(pair["first"]), tuple(pair["second"]), pair["noise"]) for pair in pairs]
    together = [Pair(places[a], places[b], noise) for a, b, noise in ends if a in places and b in places]
    return [_candidate(assignment, found, held, formats[0]) for assignment in sweep(layers, _STEPS, together)]


def _candidate(
    assignment: Assignment, found: Sequence[Mapping[str, Any]], held: Sequence[Sequence[str]], widest: str
) -> Candidate:
    chosen = [names[i] for names, i in zip(held, assignment.formats, strict=True)]
    rules = []
    for layer, name in zip(found, chosen, strict=True):
        if name != widest:
            rules += [rule_for(RECIPES[name].rules[0], node) for node in layer["nodes"]]
    counts = {name: chosen.count(name) for name in dict.fromkeys(chosen)}
    name = f"mixed-{assignment.sqnr:.1f}dB"
    return Candidate(
        name,
        "allocation",
        {"name": name, "base": widest, "rules": rules},
        "least bytes at the noise expected: " + ", ".join(f"{count} × {name}" for name, count in counts.items()),
    )


def rule_for(rule: Rule, node: str) -> dict[str, Any]:
    """A rule of a built-in recipe for one node, in the form of a recipe file."""
    told: dict[str, Any] = {"match": {"name": literal(node)}, "compute": rule.compute}
    for part, given in (("weight", rule.weight), ("activation", rule.activation)):
        if given is not None:
            told[part] = {key: str(value) if key == "dtype" else value for key, value in given.items()}
    return told


def literal(name: str) -> str:
    """A pattern that matches this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
