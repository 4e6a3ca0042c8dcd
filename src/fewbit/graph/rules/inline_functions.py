"""Calls of model-local functions are replaced by their bodies: no rule looks into functions."""

from __future__ import annotations

from fewbit.errors import ModelError
from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome

NAME = "inline_functions"


def apply(hub: Hub) -> list[RuleOutcome]:
    functions = sorted(f"{domain}.{name}" if domain else name for domain, name, _ in hub.model.functions)
    if not functions:
        return []
    from onnx_ir.passes import PassError, PreconditionError
    from onnx_ir.passes.common import InlinePass

    try:
        InlinePass()(hub.model)
    except (PassError, PreconditionError, ValueError) as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"the model's functions ({', '.join(functions)}) cannot be inlined: {first_line}") from error
    hub.rename()
    return [RuleOutcome(NAME, name, True, "its body stands in place of each call") for name in functions]
