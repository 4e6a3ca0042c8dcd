from __future__ import annotations

import pytest

from fewbit.errors import RecipeError
from fewbit.targets import TARGETS, for_machine, get_target
from fewbit.testing.targets import TargetContract


class TestOrtCpu(TargetContract):
    target = TARGETS["ort-cpu"]


class TestOrtCpuAvx2(TargetContract):
    target = TARGETS["ort-cpu-avx2"]


class TestOrtCpuVnni(TargetContract):
    target = TARGETS["ort-cpu-vnni"]


class TestLiteRtCpu(TargetContract):
    target = TARGETS["litert-cpu"]

    def test_kernels_with_a_scale_of_their_own_are_those_of_the_format(self) -> None:
        from fewbit.formats.litert.rules import KERNELS

        for op, rule in self.target.ops.items():
            kernel = KERNELS.get(op)
            known = {} if kernel is None else dict(kernel.fixed)
            if "integer" in rule.forms:
                assert {str(dtype): numbers for dtype, numbers in rule.fixed.items()} == known, op


class TestLiteRtMicro(TestLiteRtCpu):
    target = TARGETS["litert-micro"]

    def test_no_operator_computes_with_floats(self) -> None:
        assert self.target.integers_only
        assert {form for rule in self.target.ops.values() for form in rule.forms} == {"integer", "passthrough"}


class TestExecuTorchXnnpack(TargetContract):
    target = TARGETS["executorch-xnnpack"]


def test_this_machine_decides_on_the_width_of_weights() -> None:
    assert for_machine(get_target("ort-cpu"), vnni=False).weight_bits == 7
    assert for_machine(get_target("ort-cpu"), vnni=None).weight_bits == 8
    assert for_machine(get_target("ort-cpu-vnni"), vnni=False).weight_bits == 8


def test_an_unknown_target_lists_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"did you mean ort-cpu\?.*ort-cpu-avx2"):
        get_target("ort-cpux")
