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


class TestExecuTorchXnnpack(TargetContract):
    target = TARGETS["executorch-xnnpack"]


def test_this_machine_decides_on_the_width_of_weights() -> None:
    assert for_machine(get_target("ort-cpu"), vnni=False).weight_bits == 7
    assert for_machine(get_target("ort-cpu"), vnni=None).weight_bits == 8
    assert for_machine(get_target("ort-cpu-vnni"), vnni=False).weight_bits == 8


def test_an_unknown_target_lists_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"did you mean ort-cpu\?.*ort-cpu-avx2"):
        get_target("ort-cpux")
