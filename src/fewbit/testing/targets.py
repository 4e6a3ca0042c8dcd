"""What every target must be: complete, plain data that its own rules agree with."""

from __future__ import annotations

import json

from fewbit.targets import Target


class TargetContract:
    """Inherit and give `target`."""

    target: Target

    def test_integer_forms_name_their_dtypes(self) -> None:
        for op, rule in self.target.ops.items():
            if "integer" in rule.forms or "passthrough" in rule.forms:
                assert rule.activations, op
            if set(rule.forms) & {"dynamic", "weight_only", "storage"}:
                assert rule.weights, op
            assert bool(rule.packed) == ("weight_only" in rule.forms), op
            assert rule.forms or rule.why, op

    def test_an_unknown_op_has_a_reason(self) -> None:
        rule = self.target.rule("NoSuchOp")
        assert not rule.forms and "NoSuchOp" in rule.why

    def test_is_plain_data(self) -> None:
        assert json.loads(json.dumps(self.target.to_dict()))["name"] == self.target.name
        assert self.target.facts and 2 <= self.target.weight_bits <= 8
