"""Two Transposes in a row become one, or none when they cancel."""

from __future__ import annotations

import onnx_ir as ir

from fewbit.graph.edit import bypass, can_bypass, integers, is_op
from fewbit.graph.hub import Hub, all_graphs
from fewbit.graph.info import RuleOutcome

NAME = "merge_transposes"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for graph in all_graphs(hub.model):
        for second in list(graph):
            first = second.inputs[0].producer() if is_op(second, "Transpose") and second.inputs[0] is not None else None
            if first is None or not is_op(first, "Transpose") or first.inputs[0] is None:
                continue
            inner, outer = integers(first, "perm", []), integers(second, "perm", [])
            if not inner or not outer:
                continue
            # out[i] = mid[outer[i]] and mid[j] = in[inner[j]]
            perm = [inner[axis] for axis in outer]
            source = first.inputs[0]
            if perm == list(range(len(perm))):
                obstacle = can_bypass(second, source)
                if obstacle is not None:
                    outcomes.append(RuleOutcome(NAME, str(second.name), False, obstacle))
                    continue
                bypass(second, source)
                outcomes.append(RuleOutcome(NAME, str(second.name), True, f"undoes {first.name}"))
                continue
            second.replace_input_with(0, source)
            second.attributes["perm"] = ir.AttrInt64s("perm", perm)
            outcomes.append(RuleOutcome(NAME, str(second.name), True, f"does the work of {first.name} too"))
    return outcomes
