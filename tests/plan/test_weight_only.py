"""Where weight-only kernels are planned, and why elsewhere they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from fewbit.errors import RecipeError
from fewbit.graph.load import load
from fewbit.plan.plan import NodePlan, Plan
from fewbit.plan.recipe import Recipe
from fewbit.plan.resolve import resolve
from fewbit.plan.weight_only import container_bits, kernel_block
from fewbit.spec import DType
from fewbit.targets import get_target
from tests.models import Builder, conv_relu_conv


def plan_of(path: Path, recipe: Any = "int4-weights") -> Plan:
    return resolve(load(path), Recipe.get(recipe), get_target("ort-cpu"))


def matmul(path: Path, shape: tuple[Any, ...], outputs: int = 256) -> Path:
    """x of this shape times a weight of `outputs` columns."""
    b = Builder()
    b.node("MatMul", ["x", b.weight(shape[-1], outputs)], "y")
    return b.save(path, {"x": shape}, ["y"])


def only(plan: Plan) -> NodePlan:
    (node,) = plan.nodes.values()
    return node


@pytest.mark.parametrize(
    ("shape", "outputs", "form", "why"),
    [
        (("N", 256), 256, "weight_only", "MatMulNBits"),
        (("N", 2, 256), 256, "weight_only", "MatMulNBits"),
        (("N", 3, 256), 256, "storage", "it reads 3 rows, and MatMulNBits is slower than float above 2"),
        (("N", 8, 2048), 2048, "weight_only", "MatMulNBits"),
        (("N", 9, 2048), 2048, "storage", "it reads 9 rows, and MatMulNBits is slower than float above 8"),
        (("N", "T", 256), 256, "storage", "it is not known how many rows it reads"),
        (("N", 255), 256, "storage", "its weight has 65280 elements, MatMulNBits is faster than float from 65536 on"),
    ],
)
def test_the_rows_that_a_layer_reads_decide(
    shape: tuple[Any, ...], outputs: int, form: str, why: str, tmp_path: Path
) -> None:
    node = only(plan_of(matmul(tmp_path / "m.onnx", shape, outputs)))
    assert node.form == form and why in node.reason


def test_a_model_that_hands_on_a_cache_reads_one_row_a_step(tmp_path: Path) -> None:
    b = Builder()
    b.node("Concat", ["past", "x"], "present", axis=1)
    b.node("MatMul", ["x", b.weight(256, 256)], "y")
    path = b.save(tmp_path / "m.onnx", {"x": ("N", "T", 256), "past": ("N", "P", 256)}, ["y", "present"])
    assert next(n for n in plan_of(path).nodes.values() if n.op == "MatMul").form == "weight_only"


@pytest.mark.parametrize("form", ["weight_only", "storage"])
def test_a_recipe_may_ask_for_either_form(form: str, tmp_path: Path) -> None:
    path = matmul(tmp_path / "m.onnx", ("N", 128, 256))
    recipe = {"base": "int4-weights", "rules": [{"compute": form}]}
    assert only(plan_of(path, recipe)).form == form


def test_groups_along_the_inputs_with_a_zero_point_each(tmp_path: Path) -> None:
    plan = plan_of(matmul(tmp_path / "m.onnx", ("N", 256)))
    ((_, site),) = plan.constants().items()
    assert site.spec is not None
    assert (site.spec.dtype, site.spec.block_shape, site.spec.symmetric) == (DType("uint", 4), (32, 1), False)


def test_convolutions_are_stored_and_tables_gathered_packed(tmp_path: Path) -> None:
    plan = plan_of(conv_relu_conv(tmp_path / "m.onnx", channels=64))
    assert plan.forms()["storage"] == 1 and not plan.forms()["weight_only"]
    b = Builder()
    b.node("Gather", [b.weight(100, 64), "x"], "y")
    path = b.save(tmp_path / "g.onnx", {"x": ("N",)}, ["y"], dtypes={"x": TensorProto.INT64})
    for recipe in ("int4-weights", "w4a8"):
        assert only(plan_of(path, recipe)).form == "weight_only"
    assert only(plan_of(path, "int8-weights")).form == "storage"


@pytest.mark.parametrize(
    ("op", "attributes", "why"),
    [
        ("Gemm", {"alpha": 0.5}, "alpha and beta differ from 1"),
        ("Gemm", {"transA": 1}, "the activation is transposed"),
    ],
)
def test_what_the_kernel_does_not_compute_is_stored(
    op: str, attributes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    b = Builder()
    b.node(op, ["x", b.weight(256, 256)], "y", **attributes)
    node = only(plan_of(b.save(tmp_path / "m.onnx", {"x": (256, 256)}, ["y"]), "int4-weights"))
    assert node.form == "storage" and why in node.reason


def test_a_weight_read_along_both_axes_is_stored(tmp_path: Path) -> None:
    b = Builder()
    shared = b.weight(256, 256)
    hidden = b.node("Relu", [b.node("MatMul", ["x", shared])])
    b.node("Gemm", [hidden, shared], "y", transB=1)
    plan = plan_of(b.save(tmp_path / "m.onnx", {"x": (1, 256)}, ["y"]))
    assert plan.forms()["weight_only"] == 0
    assert "along other axes" in next(n.reason for n in plan.nodes.values() if n.weight)


def test_integer_kernels_have_no_groups_and_say_so(tmp_path: Path) -> None:
    path = matmul(tmp_path / "m.onnx", ("N", 256))
    plan = plan_of(path, {"base": "w4a8", "rules": [{"weight": {"granularity": "group"}}]})
    (site,) = plan.constants().values()
    assert only(plan).form == "integer" and site.spec is not None
    assert site.spec.block_shape == (-1, 1) and "this form has no groups" in site.reason


def test_integer_kernels_take_no_zero_points(tmp_path: Path) -> None:
    path = matmul(tmp_path / "m.onnx", ("N", 256))
    node = only(plan_of(path, {"base": "int8", "rules": [{"weight": {"symmetric": False}}]}))
    assert node.form == "storage"


def test_first_and_last_layers_of_w4a8_have_8_bits_where_a_recipe_says_so(tmp_path: Path) -> None:
    b = Builder()
    hidden = "x"
    for _ in range(3):
        hidden = b.node("Relu", [b.node("Conv", [hidden, b.weight(8, 8, 3, 3)], pads=[1, 1, 1, 1])])
    b.node("Conv", [hidden, b.weight(8, 8, 3, 3)], "y")
    path = b.save(tmp_path / "m.onnx", {"x": (1, 8, 6, 6)}, ["y"])
    ends = [{"match": {"position": p}, "weight": {"dtype": "int8"}} for p in ("first", "last")]
    widths = [s.spec.dtype.bits for s in plan_of(path, {"base": "w4a8", "rules": ends}).constants().values() if s.spec]
    assert widths == [8, 4, 4, 8]
    assert [s.spec.dtype.bits for s in plan_of(path, "w4a8").constants().values() if s.spec] == [4, 4, 4, 4]


@pytest.mark.parametrize(("bits", "container"), [(2, 2), (3, 4), (4, 4), (8, 8)])
def test_containers(bits: int, container: int) -> None:
    assert container_bits(bits) == container


@pytest.mark.parametrize(
    ("size", "inputs", "block"),
    [
        (32, 256, 32),
        (48, 256, 16),
        (20, 256, 4),
        (512, 1024, 256),
        (-1, 64, 64),
        (-1, 65, 128),
        (-1, 8, 16),
        (128, 96, 128),
    ],
)
def test_blocks_that_the_kernel_has(size: int, inputs: int, block: int) -> None:
    assert kernel_block(size, inputs) == block


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(RecipeError, match="compute"):
        Recipe.get({"rules": [{"compute": "packed"}]})


def test_a_narrow_range_is_kept_above_4_bits_only(tmp_path: Path) -> None:
    for recipe, lowest in (("int8-weights", -127), ("w4a8", -8)):
        (site,) = plan_of(matmul(tmp_path / "m.onnx", ("N", 256)), recipe).constants().values()
        assert site.spec is not None and site.spec.qmin == lowest
