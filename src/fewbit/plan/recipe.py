"""Recipes: what a person asks for, as ordered rules over the nodes of a graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from fewbit.errors import RecipeError
from fewbit.spec import (
    BFLOAT16,
    FLOAT8E4M3,
    FLOAT8E5M2,
    FLOAT16,
    INT2,
    INT4,
    INT8,
    UINT4,
    UINT8,
    UINT16,
    DType,
)

_ENDINGS = (".yaml", ".yml", ".json")

Granularity = Literal["tensor", "channel", "group"]
Compute = Literal["integer", "dynamic", "weights", "weight_only", "storage", "float"]
"""A form of `fewbit.targets.Form`, or `weights`: `weight_only` where its kernel is no slower than float, else `storage`."""


@dataclass(frozen=True, slots=True)
class WeightSetting:
    """How weights become narrow. `range` is `mse`, `absmax`, `hqq`, `sequential_mse`: by the outputs of their layers, or
    `joint`: by those of the network, together with the ranges of activations.

    group_size: weights that share a scale, along the inputs of one output channel, for granularity `group`.
    codebook: `kmeans` or a name of `fewbit.core.codebook.TABLES`, whose levels a uint dtype indexes; None: affine.
    """

    dtype: DType = INT8
    granularity: Granularity = "channel"
    symmetric: bool = True
    range: str = "mse"
    bias_correction: bool = True
    group_size: int = 32
    codebook: str | None = None


@dataclass(frozen=True, slots=True)
class ActivationSetting:
    """How activations become narrow. `range` is a name of `fewbit.core.ranges.RANGES`, or `auto`: of several of them the one
    that loses least in the outputs of the layers that read the activation, or `joint`: all such ranges together, by the
    outputs of the network."""

    dtype: DType = UINT8
    symmetric: bool = False
    range: str = "mse"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the rules say of one node. `compute` is the form to use where the target has it."""

    compute: Compute = "integer"
    weight: WeightSetting = WeightSetting()
    activation: ActivationSetting = ActivationSetting()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Which nodes a rule concerns; every given condition must hold.

    op: op types. name: glob over node names and the names of their outputs. position: index among the nodes with a weight
    in topological order, negative from the end ("first" is 0, "last" is -1).
    exact: one node's name, with no pattern in it.
    """

    op: tuple[str, ...] = ()
    name: str | None = None
    position: int | None = None
    exact: str | None = None

    def __call__(self, op: str, names: Sequence[str], index: int | None, count: int) -> bool:
        if self.op and op not in self.op:
            return False
        if self.name is not None and not any(fnmatchcase(name, self.name) for name in names):
            return False
        if self.exact is not None and self.exact != names[0]:
            return False
        return self.position is None or (index is not None and self.position in (index, index - count))

    def __str__(self) -> str:
        parts = [f"op {'/'.join(self.op)}"] if self.op else []
        parts += [f"name {self.name!r}"] if self.name is not None else []
        parts += [f"position {self.position}"] if self.position is not None else []
        return " and ".join(parts) or "everything"


@dataclass(frozen=True, slots=True)
class Rule:
    """What to change for the nodes that match: only the fields that are given. A weight's dtype and its codebook go together:
    where a rule gives the dtype alone, earlier codebooks no longer hold."""

    match: Match = Match()
    compute: Compute | None = None
    weight: Mapping[str, Any] | None = None
    activation: Mapping[str, Any] | None = None
    reason: str | None = None

    def apply(self, setting: Setting, why: str) -> Setting:
        weight = dict(self.weight or {})
        if "dtype" in weight:
            weight.setdefault("codebook", None)
        return replace(
            setting,
            compute=self.compute or setting.compute,
            weight=replace(setting.weight, **weight),
            activation=replace(setting.activation, **(self.activation or {})),
            reason=(self.reason or why) if self.compute else setting.reason,
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Ordered rules; later ones win, field by field.

    rewrites: of the float graph, before anything is quantized, where they change nothing that it computes: `rotate`, `shift`,
        `awq`.
    """

    name: str
    rules: tuple[Rule, ...] = (Rule(),)
    description: str = ""
    rewrites: tuple[str, ...] = ()

    @classmethod
    def get(cls, recipe: str | Path | Recipe | Mapping[str, Any]) -> Recipe:
        """A recipe by its built-in name, from a YAML or JSON file, or from a dictionary of the same form.

        Raises:
            RecipeError: unknown name, unreadable file, or a field that does not exist.
        """
        if isinstance(recipe, Recipe):
            return recipe
        if isinstance(recipe, Mapping):
            return _parse(recipe, "recipe")
        text = str(recipe)
        if text in RECIPES:
            return RECIPES[text]
        path = Path(text)
        if path.suffix.lower() in _ENDINGS:
            return _parse(_read(path), text)
        close = get_close_matches(text, RECIPES, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise RecipeError(f"recipe {text!r} does not exist: {hint}use {', '.join(RECIPES)} or a .yaml or .json file")

    def excluding(self, patterns: Sequence[str]) -> Recipe:
        """The same recipe with the nodes of these op types or name patterns left in float."""
        rules = tuple(
            Rule(Match(op=(p,)) if p.isidentifier() and p[0].isupper() else Match(name=p), compute="float")
            for p in patterns
        )
        return replace(self, rules=self.rules + rules)

    def demoting(self, reasons: Mapping[str, str]) -> Recipe:
        """The same recipe with these nodes (by exact name) in float arithmetic, each for its reason; their weights are
        stored as float16, which costs nothing."""
        half = {"dtype": FLOAT16}
        rules = tuple(Rule(Match(exact=n), compute="storage", weight=half, reason=why) for n, why in reasons.items())
        return replace(self, rules=self.rules + rules)

    def settings(self, nodes: Sequence[tuple[str, str, Sequence[str], bool]]) -> dict[str, Setting]:
        """The setting of each node.

        Args:
            nodes: (name, op type, names that a pattern may match, whether it has a weight), in topological order.

        Raises:
            RecipeError: a rule that matches nothing.
        """
        weighted = [name for name, _, _, has_weight in nodes if has_weight]
        index = {name: i for i, name in enumerate(weighted)}
        settings = {name: Setting() for name, *_ in nodes}
        for number, rule in enumerate(self.rules, 1):
            hit = [name for name, op, names, _ in nodes if rule.match(op, names, index.get(name), len(weighted))]
            if not hit and rule.match != Match():
                ops = sorted({op for _, op, _, _ in nodes})
                raise RecipeError(
                    f"rule {number} of recipe {self.name} ({rule.match}) matches nothing in this model; "
                    f"its ops are {', '.join(ops)}"
                )
            for name in hit:
                why = f"rule {number} of recipe {self.name}: {rule.match}"
                settings[name] = rule.apply(settings[name], why if rule.match != Match() else f"recipe {self.name}")
        return settings


def recipe_data(recipe: str) -> str | Mapping[str, Any]:
    """What a recipe's text stands for: a file's content, so that the file may change; a name stays one.

    Raises:
        RecipeError: an unreadable file.
    """
    path = Path(recipe)
    if path.suffix.lower() not in _ENDINGS:
        return recipe
    data = _read(path)
    return data if isinstance(data, Mapping) else {"rules": data}


def _read(path: Path) -> Any:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise RecipeError(f"recipe {path} is not valid {path.suffix[1:]}: {' '.join(str(error).split())}") from error


def _parse(data: Any, source: str) -> Recipe:
    from fewbit.plan.recipe_file import RecipeFile

    return RecipeFile.parse(data, source)


def _stored(name: str, description: str, dtype: DType, **weight: Any) -> Recipe:
    """Samples, where they are given, serve to correct the biases: worth 2 to 9 dB in most convolutional
    networks at 4 bits, and nothing at 16."""
    rule = Rule(
        compute="storage", weight={"dtype": dtype, "bias_correction": dtype.bits < 8 or dtype.is_float8, **weight}
    )
    return Recipe(name, (rule,), f"{description}, float arithmetic; needs no samples")


def _codebook(name: str, description: str, table: str, bits: int) -> Recipe:
    # bitsandbytes shares a scale among 64 weights too; 32 cost a third of a bit and give 0.7 to 1.1 dB.
    return _stored(name, description, DType("uint", bits), codebook=table, granularity="group", group_size=64)


def _integers(name: str, description: str, bits: int, group: int) -> Recipe:
    # With a zero point a group, which takes an eighth of a bit of each weight in groups of 32 and gives about 1 dB.
    weight = {"dtype": DType("uint", bits), "symmetric": False, "granularity": "group", "group_size": group}
    return Recipe(
        name, (Rule(compute="weights", weight=weight),), f"{description}, float activations; needs no samples"
    )


def _outer8(name: str, description: str, weight: DType, activation: DType) -> Recipe:
    """Integers of so few bits that the network is to be trained with them. The first and the last layer keep 8, as is usual
    (Esser et al. 2020, section 3): they are small, and what they lose nothing makes good."""
    wide: dict[str, Any] = {"weight": {"dtype": INT8}, "activation": {"dtype": UINT8}}
    rules = (
        Rule(compute="integer", weight={"dtype": weight}, activation={"dtype": activation}),
        *(Rule(Match(position=position), **wide) for position in (0, -1)),
    )
    return Recipe(name, rules, f"{description}; the first and the last layer with 8")


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("int8", (Rule(compute="integer"),), "full integer: uint8 activations, int8 weights per channel"),
        Recipe(
            "int8-dynamic",
            (Rule(compute="dynamic"),),
            "int8 weights; the ranges of activations are found at every run; needs no samples",
        ),
        _stored("int8-weights", "int8 weights per channel", INT8),
        _integers("int4-weights", "4-bit weights in groups of 32", 4, 32),
        _integers("int4-weights-g128", "4-bit weights in groups of 128", 4, 128),
        _integers("int3-weights", "3-bit weights in groups of 32", 3, 32),
        _integers("int2-weights", "2-bit weights in groups of 32", 2, 32),
        _stored("fp16", "float16 storage", FLOAT16),
        _stored("bf16", "bfloat16 storage", BFLOAT16),
        _stored("fp8-e4m3", "8-bit floats of 4 exponent bits, a scale a channel", FLOAT8E4M3),
        _stored("fp8-e5m2", "8-bit floats of 5 exponent bits, a scale a channel", FLOAT8E5M2),
        _codebook("nf4", "4-bit NormalFloat of QLoRA, groups of 64", "nf4", 4),
        _codebook("fp4", "4-bit floats (E2M1), groups of 64", "fp4", 4),
        _codebook("codebook4", "16 levels learned from each weight by k-means, groups of 64", "kmeans", 4),
        _codebook("codebook3", "8 levels learned from each weight by k-means, groups of 64", "kmeans", 3),
        _codebook("codebook2", "4 levels learned from each weight by k-means, groups of 64", "kmeans", 2),
        _codebook("pot4", "4-bit powers of two, groups of 64", "pot", 4),
        _codebook("apot4", "4-bit sums of powers of two, groups of 64", "apot", 4),
        Recipe(
            "a16w8",
            (Rule(compute="integer", activation={"dtype": UINT16}),),
            "16-bit activations, int8 weights per channel",
        ),
        Recipe(
            "w4a8", (Rule(compute="integer", weight={"dtype": INT4}),), "full integer with 4-bit weights per channel"
        ),
        _outer8("w4a4", "4-bit weights per channel, 4-bit activations where weights read them", INT4, UINT4),
        _outer8("w2a8", "full integer with 2-bit weights per channel", INT2, UINT8),
        Recipe(
            "w4a16",
            (Rule(compute="integer", weight={"dtype": INT4}, activation={"dtype": UINT16}),),
            "16-bit activations, 4-bit weights per channel",
        ),
    )
}
