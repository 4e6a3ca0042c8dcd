from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.shapes import hollow_proto, infer_shapes

from .build import graph, model, node, weights


def shapes(hub: Hub) -> dict[str, tuple | None]:
    infer_shapes(hub.model)
    return {str(v.name): hub.shape(v) for n in hub.graph.all_nodes() for v in n.outputs}


def test_dynamic_sizes_stay_named():
    nodes = [node("Conv", ["x", "w"], ["c"], strides=[2, 2]), node("Flatten", ["c"], ["y"])]
    hub = load(model(nodes, ["x:f[N,3,9,9]"], ["y:f"], {"w": weights(4, 3, 3, 3)}), normalize=False)
    assert shapes(hub) == {"c": ("N", 4, 4, 4), "y": ("N", 64)}


def test_unknown_operators_leave_gaps():
    nodes = [node("Relu", ["x"], ["a"]), node("Mystery", ["a"], ["b"], domain="my"), node("Relu", ["b"], ["y"])]
    hub = load(model(nodes, ["x:f[2,3]"], ["y:f"], domains=["my"]), normalize=False)
    assert shapes(hub) == {"a": (2, 3), "b": None, "y": None}


def test_broken_nodes_do_not_stop_it():
    nodes = [node("Relu", ["x"], ["a"]), node("MatMul", ["a", "w"], ["b"]), node("Neg", ["a"], ["y"])]
    hub = load(
        model([*nodes, node("Exp", ["b"], ["z"])], ["x:f[2,3]"], ["y:f", "z:f"], {"w": weights(5, 5)}), normalize=False
    )
    assert shapes(hub)["y"] == (2, 3)


def test_shapes_that_are_computed():
    nodes = [node("Concat", ["minus", "four"], ["s"], axis=0), node("Reshape", ["x", "s"], ["y"])]
    hub = load(model(nodes, ["x:f[2,3,4]"], ["y:f"], {"minus": np.array([-1]), "four": np.array([4])}), normalize=False)
    assert shapes(hub)["y"] == (6, 4)


def test_inside_subgraphs():
    branches = [
        graph([node("Relu", ["x"], ["t"])], [], ["t:f"]),
        graph([node("MatMul", ["x", "w"], ["m"]), node("Neg", ["m"], ["e"])], [], ["e:f"]),
    ]
    proto = model(
        [node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])],
        ["x:f[2,3]", "c:b[]"],
        ["y:f"],
        {"w": weights(3, 3)},
    )
    hub = load(proto, normalize=False)
    assert shapes(hub)["m"] == (2, 3)


def test_what_the_file_says_about_a_custom_operator_is_used():
    from onnx import helper

    proto = model(
        [node("Mystery", ["x"], ["b"], domain="my"), node("Relu", ["b"], ["y"])], ["x:f[2,3]"], ["y:f"], domains=["my"]
    )
    proto.graph.value_info.append(helper.make_tensor_value_info("b", 1, [7, 8]))
    assert shapes(load(proto, normalize=False)) == {"b": (7, 8), "y": (7, 8)}


def test_weights_are_not_serialized():
    hub = load(model([node("MatMul", ["x", "w"], ["y"])], ["x:f[2,1000]"], ["y:f"], {"w": weights(1000, 1000)}))
    assert len(hollow_proto(hub.model).SerializeToString()) < 1000
    assert hub.constant(hub.value("w")).shape == (1000, 1000)


@pytest.mark.parametrize("above", [0, 10**9])
def test_small_external_constants_are_read(tmp_path, above):
    from fewbit.graph.save import save

    save(
        load(model([node("Reshape", ["x", "s"], ["y"])], ["x:f[2,512]"], ["y:f"], {"s": np.array([4, 256])})).model,
        tmp_path / "m.onnx",
        external_above=above,
    )
    hub = load(tmp_path / "m.onnx")
    assert shapes(hub)["y"] == (4, 256)
    assert isinstance(hub.graph.initializers["s"].const_value, ir.TensorProtocol)


def test_operators_of_onnx_runtime():
    nodes = [
        node("BiasGelu", ["x", "b"], ["g"], domain="com.microsoft"),
        node("FusedMatMul", ["g", "w"], ["m"], domain="com.microsoft", alpha=0.5),
        node("SkipLayerNormalization", ["m", "m", "b"], ["n", "", "", "sum"], domain="com.microsoft"),
        node("FusedMatMul", ["n", "w"], ["y"], domain="com.microsoft", transB=1),
    ]
    proto = model(
        nodes, ["x:f[N,3,4]"], ["y:f", "sum:f"], {"w": weights(4, 4), "b": weights(4)}, domains=["com.microsoft"]
    )
    found = shapes(load(proto, normalize=False))
    assert {name: found[name] for name in "gmny"} == {"g": ("N", 3, 4), "m": ("N", 3, 4), "n": ("N", 3, 4), "y": None}


def test_long_vectors_are_not_taken_for_shapes():
    """ONNX's inference would hold each of the entries as a message: gigabytes for what only a shape states."""
    nodes = [node("Cast", ["x"], ["c"], to=1), node("Neg", ["c"], ["y"])]
    hub = load(model(nodes, [f"x:i[{1 << 27}]"], ["y:f"]), normalize=False)
    assert shapes(hub) == {"c": (1 << 27,), "y": (1 << 27,)}
