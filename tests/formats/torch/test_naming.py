"""Nodes, values and constants have the names of the user's modules."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from fewbit.graph.facts import bias_add
from fewbit.graph.load import load


def test_nodes_are_named_by_module(cnn: tuple[Any, Any]) -> None:
    _, hub = cnn
    block = ["conv1", "act", "conv2", "Add", "Relu"]
    nodes = [str(node.name) for node in hub.nodes()]
    assert nodes[0] == "stem" and nodes[-3:] != nodes[:3]
    assert [n for n in nodes if n.startswith("layer1.")] == [f"layer1.{i}.{name}" for i in (0, 1) for name in block]
    (fc,) = (node for node in hub.nodes() if node.name == "fc")
    assert fc.op_type == "Gemm" and fc.inputs[1].name == "fc.weight"


def test_constants_keep_the_names_of_parameters(cnn: tuple[Any, Any]) -> None:
    _, hub = cnn
    for name in ("stem", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2"):
        (node,) = (node for node in hub.nodes() if node.name == name)
        assert node.op_type == "Conv" and node.inputs[1].name == f"{name}.weight"


def test_linear_layers_that_are_no_gemm(transformer: tuple[Any, Any]) -> None:
    _, hub = transformer
    nodes = {str(node.name): node for node in hub.nodes()}
    for layer in (0, 1):
        for name in ("linear1", "linear2"):
            node = nodes[f"encoder.layers.{layer}.{name}"]
            assert node.op_type == "MatMul" and node.inputs[1].name == f"encoder.layers.{layer}.{name}.weight.T"
            assert bias_add(node).name == f"encoder.layers.{layer}.{name}.Add"
        assert nodes[f"encoder.layers.{layer}.self_attn.out_proj"].op_type == "Gemm"
        assert nodes[f"encoder.layers.{layer}.norm1"].op_type == "LayerNormalization"
    assert nodes["embedding"].op_type == "Gather" and nodes["head.MatMul"].op_type == "MatMul"


def test_nothing_of_the_machine_stays_in_the_graph(cnn: tuple[Any, Any]) -> None:
    _, hub = cnn
    proto = ir.to_proto(load(hub, normalize=False).model)
    assert not any(node.metadata_props for node in proto.graph.node)
    assert b".py" not in proto.SerializeToString()
