"""Everything that fewbit raises on purpose.

    FewbitError                     the base: catching it catches all of them
    ├── InputError                  what the user gave is wrong; the command exits with 2
    │   ├── ModelError              the model file: not a model, truncated, already quantized, weights missing
    │   ├── DataError               the samples: names, shapes, dtypes, NaN, none at all
    │   ├── RecipeError             recipe, target, metric or option that does not exist or contradicts itself
    │   ├── PlanError               a plan that is malformed, of another version, or of another graph
    │   ├── OutputError             a place that cannot be written
    │   └── MissingExtraError       an optional package that is not installed; says the pip command
    ├── ConstraintError             no candidate meets what was asked; the command exits with 3
    └── VerificationError           the exported model does not do in the runtime what its plan says

A message names the rule, the actual value, the tensor or site, and the remedy, in one line.
"""

from __future__ import annotations


class FewbitError(Exception):
    """Base of every error that fewbit raises on purpose."""

    exit_code = 1


class InputError(FewbitError):
    """What the user gave is wrong."""

    exit_code = 2


class ModelError(InputError):
    """The model cannot be read or cannot be quantized."""


class DataError(InputError):
    """The samples do not fit the model, or there are none."""


class RecipeError(InputError):
    """A recipe, target, metric or option does not exist or contradicts itself."""


class PlanError(InputError):
    """A plan is malformed, of an unknown version, or belongs to another graph."""


class OutputError(InputError):
    """The output cannot be written."""


class MissingExtraError(InputError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'fewbit[{extra}]'")


class ConstraintError(FewbitError):
    """No candidate meets what was asked."""

    exit_code = 3


class VerificationError(FewbitError):
    """The exported model does not do in the runtime what its plan says."""
