"""The four passes on small graphs: which form each node gets, which edges are quantized, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fewbit
from fewbit.graph.load import load
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import RECIPES, Recipe, Rule
from fewbit.plan.resolve import resolve
from fewbit.spec import INT8, UINT8, DType
from fewbit.targets import get_target
from tests.models import Builder, attention, conv_relu_conv


def plan_of(path: Path, recipe: str = "int8", target: str = "ort-cpu") -> Plan:
    return resolve(load(path), RECIPES[recipe], get_target(target))


def forms(plan: Plan) -> dict[str, str]:
    return {f"{node.op}{i}": node.form for i, node in enumerate(plan.nodes.values())}


def test_a_relu_is_absorbed_and_edges_between_convolutions_are_made_as_integers(tmp_path: Path) -> None:
    plan = plan_of(conv_relu_conv(tmp_path / "m.onnx"))
    assert list(forms(plan).values()) == ["integer", "absorbed", "integer"]
    edges = plan.edges()
    assert len(edges) == 3
    assert edges["x"].readers is not None and edges["y"].readers is None
    hidden = next(s for name, s in edges.items() if name not in ("x", "y"))
    assert hidden.bounds == (0.0, float("inf")) and hidden.readers is None
    assert all(s.spec is not None and s.spec.dtype == UINT8 for s in edges.values())
    assert all(
        s.spec is not None and s.spec.dtype == INT8 and s.spec.block_shape[0] == 1 for s in plan.constants().values()
    )
    assert all(node.reason for node in plan.nodes.values()) and all(site.reason for site in plan.sites.values())


def test_attention_keeps_scores_masks_and_the_residual_in_float(tmp_path: Path) -> None:
    plan = plan_of(attention(tmp_path / "m.onnx"))
    by_op: dict[str, set[str]] = {}
    for node in plan.nodes.values():
        by_op.setdefault(node.op, set()).add(node.form)
    assert by_op["Softmax"] == by_op["Add"] == by_op["LayerNormalization"] == {"float"}
    integer = [n for n in plan.nodes.values() if n.form == "integer"]
    assert len(integer) == 4 and all(n.op == "MatMul" for n in integer)
    shared = [s for s in plan.edges().values() if s.readers is not None and len(s.readers) == 3]
    assert len(shared) == 1  # one quantizer for query, key and value


def concat_model(path: Path, extra_reader: bool) -> Path:
    b = Builder()
    left = b.node("Conv", ["x", b.weight(4, 3, 1, 1)])
    right = b.node("Conv", ["x", b.weight(4, 3, 1, 1)])
    both = b.node("Concat", [left, right], axis=1)
    out = b.node("Conv", [both, b.weight(2, 8, 1, 1)])
    if extra_reader:
        out = b.node("Add", [out, b.node("Conv", [left, b.weight(2, 4, 1, 1)])])
    b.node("Conv", [out, b.weight(2, 2, 1, 1)], "y")
    return b.save(path, {"x": (1, 3, 8, 8)}, ["y"])


def test_concat_shares_a_scale_only_where_nobody_else_reads_its_inputs(tmp_path: Path) -> None:
    plan = plan_of(concat_model(tmp_path / "a.onnx", extra_reader=False))
    assert next(n for n in plan.nodes.values() if n.op == "Concat").form == "passthrough"
    groups = [s.group for s in plan.edges().values() if s.group is not None]
    assert len(groups) == 2 and len(set(groups)) == 1
    apart = plan_of(concat_model(tmp_path / "b.onnx", extra_reader=True))
    assert next(n for n in apart.nodes.values() if n.op == "Concat").form == "integer"
    assert all(s.group is None for s in apart.edges().values())


def test_a_tail_that_no_integer_kernel_reads_stays_float(tmp_path: Path) -> None:
    b = Builder()
    heads = [
        b.node("Conv", ["x", b.weight(4, 3, 1, 1)]),
        b.node("Sigmoid", [b.node("Conv", ["x", b.weight(4, 3, 1, 1)])]),
    ]
    b.node("Reshape", [b.node("Concat", heads, axis=1), b.constant(np.array([1, 8, -1]))], "y")
    plan = plan_of(b.save(tmp_path / "m.onnx", {"x": (1, 3, 8, 8)}, ["y"]))
    assert {n.op: n.form for n in plan.nodes.values()} == {
        "Conv": "integer",
        "Sigmoid": "float",
        "Concat": "float",
        "Reshape": "float",
    }


def lstm_model(path: Path) -> Path:
    b = Builder()
    inputs = ["x", b.weight(1, 64, 16), b.weight(1, 64, 16), b.weight(1, 128)]
    b.node("LSTM", inputs, "y", hidden_size=16)
    return b.save(path, {"x": (5, 1, 16)}, ["y"])


@pytest.mark.parametrize(("recipe", "form"), [("int8", "dynamic"), ("int8-dynamic", "dynamic"), ("fp16", "storage")])
def test_recurrent_layers_are_dynamic_or_stored_with_a_reason(tmp_path: Path, recipe: str, form: str) -> None:
    (node,) = plan_of(lstm_model(tmp_path / "m.onnx"), recipe).nodes.values()
    assert node.form == form
    if recipe == "int8":
        assert "state" in node.reason


def test_dynamic_leaves_convolutions_to_a_form_that_pays(tmp_path: Path) -> None:
    plan = plan_of(conv_relu_conv(tmp_path / "m.onnx", channels=64), "int8-dynamic")
    first = next(iter(plan.nodes.values()))
    assert first.form == "storage" and "slower than float" in first.reason
    assert not plan.edges()


def every_width(path: Path) -> Path:
    """Dense, depthwise and grouped convolutions, a Gemm, and an LSTM beside them."""
    b = Builder()
    x = b.node("Conv", ["x", b.weight(8, 3, 1, 1)])
    x = b.node("Conv", [x, b.weight(8, 1, 3, 3)], group=8)
    x = b.node("Conv", [x, b.weight(8, 4, 1, 1)], group=2)
    b.node("Gemm", [b.node("Flatten", [x]), b.weight(288, 4)], "y")
    b.node("LSTM", ["s", b.weight(1, 64, 8), b.weight(1, 64, 16)], "z", hidden_size=16)
    return b.save(path, {"x": (1, 3, 8, 8), "s": (5, 1, 8)}, ["y", "z"])


def widths(plan: Plan) -> list[tuple[str, DType, int | None]]:
    """Of the weights in the order of the nodes: op, dtype, and the limit of their pairs."""
    sites = [(n.op, plan.sites[n.weight].spec) for n in plan.nodes.values() if n.weight is not None]
    return [(op, spec.dtype, spec.pair_limit) for op, spec in sites if spec is not None]


def test_without_vnni_pairs_of_8_bit_weights_are_limited_or_weights_have_7_bits(tmp_path: Path) -> None:
    hub, seven = load(every_width(tmp_path / "m.onnx")), DType("int", 7)
    avx2 = get_target("ort-cpu-avx2")
    limited = widths(resolve(hub, RECIPES["int8"], avx2))
    assert sorted(limited, key=str) == sorted(
        [
            ("Conv", INT8, 128),
            ("Conv", INT8, None),  # depthwise
            ("Conv", INT8, 128),
            ("Gemm", INT8, 128),
            ("LSTM", seven, None),
        ],
        key=str,
    )
    assert {w[1:] for w in widths(resolve(hub, RECIPES["int8"], replace(avx2, pair_limit=None)))} == {(seven, None)}
    per_tensor = Recipe("t", (Rule(weight={"granularity": "tensor"}),))
    assert {w[1:] for w in widths(resolve(hub, per_tensor, avx2))} == {(seven, None)}
    for recipe, target in (("int8", "ort-cpu-vnni"), ("int8-weights", "ort-cpu-avx2")):
        assert {w[1:] for w in widths(resolve(hub, RECIPES[recipe], get_target(target)))} == {(INT8, None)}


@pytest.mark.parametrize(
    ("weight", "group", "limit"),
    [
        ((8, 1, 3, 3), 8, None),  # depthwise: a kernel of its own, which adds no pairs
        ((16, 1, 3, 3), 8, 128),  # two outputs a channel: a product of matrices
        ((8, 4, 3, 3), 2, 128),
        ((8, 8, 3, 3), 1, 128),
    ],
)
def test_only_depthwise_convolutions_with_one_output_a_channel_add_no_pairs(
    tmp_path: Path, weight: tuple[int, ...], group: int, limit: int | None
) -> None:
    b = Builder()
    b.node("Relu", [b.node("Conv", ["x", b.weight(*weight)], group=group)], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 8, 8, 8)}, ["y"]))
    assert widths(resolve(hub, RECIPES["int8"], get_target("ort-cpu-avx2"))) == [("Conv", INT8, limit)]


@pytest.mark.parametrize("recipe", ["int8", "int8-dynamic"])
def test_a_weight_that_is_read_along_two_axes_has_no_integer_kernel(recipe: str, tmp_path: Path) -> None:
    """The tied weight of an autoencoder: a scale for each output of one layer is one for each input of the other."""
    b = Builder()
    tied = b.weight(32, 32)
    hidden = b.node("Relu", [b.node("Gemm", ["x", tied])])
    b.node("Gemm", [hidden, tied], "y", transB=1)
    path = b.save(tmp_path / "m.onnx", {"x": ("N", 32)}, ["y"])
    assert [n.form for n in plan_of(path, recipe).nodes.values() if n.weight] == ["storage", "storage"]
    feeds = [{"x": b.random.standard_normal((4, 32)).astype(np.float32)} for _ in range(8)]
    made = fewbit.quantize(path, feeds, recipe)
    assert made.verification is not None and made.verification.outputs[0].sqnr > 35


def test_a_custom_op_passes_through(tmp_path: Path) -> None:
    b = Builder()
    hidden = b.node("Conv", ["x", b.weight(4, 3, 1, 1)])
    b.node("Gelu", [hidden], "y", domain="com.microsoft")
    proto = b.proto({"x": (1, 3, 8, 8)}, ["y"])
    proto.opset_import.append(type(proto.opset_import[0])(domain="com.microsoft", version=1))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    plan = plan_of(path)
    assert {n.op: n.form for n in plan.nodes.values()} == {"Conv": "integer", "Gelu": "float"}


def test_groups_lie_along_the_inputs_of_one_output_channel(tmp_path: Path) -> None:
    b = Builder()
    hidden = b.node("Conv", ["x", b.weight(8, 16, 3, 3)], pads=[1, 1, 1, 1])
    flat = b.node("Flatten", [hidden])
    wide = b.node("Gemm", [flat, b.weight(70, 8 * 16)], transB=1)
    b.node("MatMul", [wide, b.weight(70, 40)], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 16, 4, 4)}, ["y"]))
    plan = resolve(hub, RECIPES["nf4"], get_target("ort-cpu"))
    blocks = {site.site.position: site.spec.block_shape for site in plan.constants().values() if site.spec is not None}
    assert list(blocks.values()) == [(1, 7, -1, -1), (1, 64), (64, 1)]  # 7 inputs of 9 taps are 63 weights


def test_integer_kernels_take_no_codebook(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight(64, 64)], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 64)}, ["y"]))
    weight = {"dtype": "uint4", "codebook": "nf4"}
    plan = resolve(hub, Recipe.get({"rules": [{"compute": "integer", "weight": weight}]}), get_target("ort-cpu"))
    (node,) = plan.nodes.values()
    assert node.form == "storage"
