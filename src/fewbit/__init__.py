"""fewbit makes a trained neural network smaller and faster by quantization, and proves that it still works."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewbit.flow.auto.auto import auto
    from fewbit.flow.benchmark import benchmark
    from fewbit.flow.compare import compare
    from fewbit.flow.evaluate import evaluate
    from fewbit.flow.inspect import inspect
    from fewbit.flow.opening import load
    from fewbit.flow.quantize import quantize
    from fewbit.flow.tune import tune
    from fewbit.plan.plan import Plan
    from fewbit.plan.recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "Plan",
    "Recipe",
    "__version__",
    "auto",
    "benchmark",
    "compare",
    "evaluate",
    "inspect",
    "load",
    "quantize",
    "tune",
]

# Loaded on first use, so that `import fewbit` costs nothing.
_WHERE = {
    "Plan": "fewbit.plan.plan",
    "Recipe": "fewbit.plan.recipe",
    "auto": "fewbit.flow.auto.auto",
    "benchmark": "fewbit.flow.benchmark",
    "compare": "fewbit.flow.compare",
    "evaluate": "fewbit.flow.evaluate",
    "inspect": "fewbit.flow.inspect",
    "load": "fewbit.flow.opening",
    "quantize": "fewbit.flow.quantize",
    "tune": "fewbit.flow.tune",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'fewbit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
