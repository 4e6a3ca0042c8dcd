"""The schema of a recipe that a person writes, checked by pydantic."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fewbit.core.codebook import CODEBOOKS
from fewbit.errors import RecipeError
from fewbit.plan.recipe import Compute, Granularity, Match, Recipe, Rule
from fewbit.spec import DType


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Match(_Strict):
    op: str | list[str] | None = None
    name: str | None = None
    position: Literal["first", "last"] | int | None = None


class _Tensor(_Strict):
    dtype: str | None = None
    symmetric: bool | None = None
    range: str | None = None

    @field_validator("dtype")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                DType.parse(value)
            except RecipeError as error:
                raise ValueError(str(error)) from error
        return value

    def given(self) -> dict[str, Any]:
        values = self.model_dump(exclude_none=True)
        if "dtype" in values:
            values["dtype"] = DType.parse(values["dtype"])
        return values


class _Weight(_Tensor):
    granularity: Granularity | None = None
    group_size: int | None = Field(default=None, ge=2)
    codebook: str | None = None
    range: Literal["mse", "absmax", "hqq", "sequential_mse", "joint"] | None = None
    bias_correction: bool | None = None

    @field_validator("codebook")
    @classmethod
    def _table(cls, value: str | None) -> str | None:
        if value is not None and value not in CODEBOOKS:
            raise ValueError(f"codebook {value!r} is not known; use one of {', '.join(CODEBOOKS)}")
        return value


class _Activation(_Tensor):
    range: Literal["minmax", "percentile", "mse", "entropy", "moving_average", "auto", "joint"] | None = None


class _Rule(_Strict):
    match: _Match = _Match()
    compute: Compute | None = None
    weight: _Weight | None = None
    activation: _Activation | None = None


class RecipeFile(_Strict):
    """`{name: ..., base: int8, rules: [{match: {op: Conv}, weight: {...}, activation: {...}}]}`."""

    name: str | None = None
    description: str = ""
    base: str | None = None
    rules: list[_Rule] = Field(default_factory=list)
    rewrites: list[Literal["rotate", "shift", "awq"]] | None = None

    @classmethod
    def parse(cls, data: Any, source: str) -> Recipe:
        """A recipe from parsed YAML or JSON; a bare list is the list of rules.

        Raises:
            RecipeError: names the field, its value and what is allowed.
        """
        try:
            file = cls.model_validate({"rules": data} if isinstance(data, list) else data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise RecipeError(f"recipe {source}: {where}: {first['msg']} (given: {first['input']!r:.80})") from error
        base = Recipe.get(file.base) if file.base else Recipe("", ())
        if not base.rules and not file.rules:
            raise RecipeError(f"recipe {source} has neither rules nor a base recipe")
        rewrites = base.rewrites if file.rewrites is None else tuple(file.rewrites)
        return Recipe(file.name or source, base.rules + tuple(map(_rule, file.rules)), file.description, rewrites)


def _rule(rule: _Rule) -> Rule:
    op = rule.match.op
    position = {"first": 0, "last": -1}.get(rule.match.position, rule.match.position)  # type: ignore[arg-type]
    match = Match((op,) if isinstance(op, str) else tuple(op or ()), rule.match.name, position)  # type: ignore[arg-type]
    weight = rule.weight.given() if rule.weight else None
    activation = rule.activation.given() if rule.activation else None
    return Rule(match, rule.compute, weight, activation)
