from __future__ import annotations

import numpy as np
import onnx
import pytest

from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.ops import bias_of, category_of, data_inputs, info_of, kind_of, recurrent_weights, weight_of

from .build import model, node


def only(op_type: str, inputs: list[str], shapes: dict[str, tuple[int, ...]], domain: str = "", **attributes) -> Hub:
    """A model of one node; `shapes` are its constants, the other inputs are fed."""
    fed = [f"{name}:f" for name in inputs if name and name not in shapes]
    constants = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    proto = model(
        [node(op_type, inputs, ["y"], domain=domain, **attributes)],
        fed,
        ["y:f"],
        constants,
        domains=[domain] if domain else (),
    )
    return load(proto, normalize=False)


# op, inputs, constants, attributes -> index, out axis, in axis, groups, axis of the output
AXES = [
    ("Conv", ["x", "w"], {"w": (8, 3, 3, 3)}, {}, (1, 0, 1, 1, 1)),
    ("Conv", ["x", "w", "b"], {"w": (8, 1, 3), "b": (8,)}, {"group": 4}, (1, 0, 1, 4, 1)),
    ("ConvTranspose", ["x", "w"], {"w": (6, 4, 2, 2)}, {}, (1, 1, 0, 1, 1)),
    ("ConvTranspose", ["x", "w"], {"w": (6, 4, 2, 2)}, {"group": 2}, (1, 1, 0, 2, 1)),
    ("Gemm", ["x", "w"], {"w": (5, 7)}, {}, (1, 1, 0, 1, 1)),
    ("Gemm", ["x", "w"], {"w": (7, 5)}, {"transB": 1}, (1, 0, 1, 1, 1)),
    ("Gemm", ["w", "x"], {"w": (5, 7)}, {}, (0, 0, 1, 1, 0)),
    ("Gemm", ["w", "x"], {"w": (7, 5)}, {"transA": 1}, (0, 1, 0, 1, 0)),
    ("MatMul", ["x", "w"], {"w": (5, 7)}, {}, (1, 1, 0, 1, -1)),
    ("MatMul", ["x", "w"], {"w": (2, 5, 7)}, {}, (1, 2, 1, 1, -1)),
    ("MatMul", ["w", "x"], {"w": (7, 5)}, {}, (0, 0, 1, 1, -2)),
    ("LSTM", ["x", "w", "r"], {"w": (1, 16, 5), "r": (1, 16, 4)}, {"hidden_size": 4}, (1, 1, 2, 1, -1)),
    ("GRU", ["x", "w", "r"], {"w": (2, 12, 5), "r": (2, 12, 4)}, {"hidden_size": 4}, (1, 1, 2, 1, -1)),
]


@pytest.mark.parametrize(("op_type", "inputs", "shapes", "attributes", "expected"), AXES)
def test_weight_axes(op_type, inputs, shapes, attributes, expected):
    hub = only(op_type, inputs, shapes, **attributes)
    weight = weight_of(hub.nodes()[0])
    assert weight is not None
    assert (weight.index, weight.out_axis, weight.in_axis, weight.groups, weight.channel_axis) == expected
    assert weight.name == "w" and weight.shape == shapes["w"]


def test_microsoft_matmul_transposed():
    hub = only("FusedMatMul", ["x", "w"], {"w": (7, 5)}, domain="com.microsoft", transB=1)
    weight = weight_of(hub.nodes()[0])
    assert weight is not None and (weight.out_axis, weight.in_axis) == (0, 1)


@pytest.mark.parametrize(
    ("op_type", "inputs", "shapes"),
    [
        ("MatMul", ["x", "z"], {}),
        ("MatMul", ["x", "w"], {"w": (5,)}),
        ("Conv", ["x", "z"], {}),
        ("Add", ["x", "w"], {"w": (5, 7)}),
    ],
)
def test_no_weight(op_type, inputs, shapes):
    assert weight_of(only(op_type, inputs, shapes).nodes()[0]) is None


def test_embedding_is_a_gather_from_a_constant_table():
    proto = model(
        [
            node("Gather", ["table", "ids"], ["rows"]),
            node("Gather", ["rows", "first"], ["y"], axis=1),
            node("Gather", ["vector", "ids"], ["z"]),
        ],
        ["ids:i[N]"],
        ["y:f", "z:f"],
        {"table": np.ones((10, 4), np.float32), "first": np.array([0]), "vector": np.ones(3, np.float32)},
    )
    nodes = load(proto, normalize=False).nodes()
    assert [kind_of(n) for n in nodes] == ["embedding", "gather", "gather"]
    assert [category_of(n) for n in nodes] == ["heavy", "passthrough", "passthrough"]
    weight = weight_of(nodes[0])
    assert weight is not None and (weight.index, weight.out_axis, weight.in_axis, weight.channel_axis) == (0, 0, 1, 0)
    assert weight_of(nodes[1]) is None


def test_resize_moves_or_averages():
    hubs = {mode: only("Resize", ["x", "", "s"], {"s": (4,)}, mode=mode) for mode in ("nearest", "linear", "cubic")}
    assert {mode: category_of(hub.nodes()[0]) for mode, hub in hubs.items()} == {
        "nearest": "passthrough",
        "linear": "averaging",
        "cubic": "averaging",
    }


def test_data_inputs_leave_out_shapes_and_bounds():
    proto = model(
        [
            node("Clip", ["x", "lo", "hi"], ["c"]),
            node("Concat", ["c", "x"], ["k"], axis=0),
            node("Slice", ["k", "s", "e"], ["y"]),
        ],
        ["x:f[2,3]"],
        ["y:f"],
        {"lo": np.float32(0), "hi": np.float32(6), "s": np.array([0]), "e": np.array([1])},
    )
    names = [[v.name for v in data_inputs(n)] for n in load(proto, normalize=False).nodes()]
    assert names == [["x"], ["c", "x"], ["k"]]


def test_recurrent_weights_and_bias():
    hub = only("LSTM", ["x", "w", "r", "b"], {"w": (1, 16, 5), "r": (1, 16, 4), "b": (1, 32)}, hidden_size=4)
    lstm = hub.nodes()[0]
    assert [(w.name, w.index, w.out_axis, w.in_axis) for w in recurrent_weights(lstm)] == [
        ("w", 1, 1, 2),
        ("r", 2, 1, 2),
    ]
    assert bias_of(lstm).name == "b"


def test_unknown_operators_are_other():
    hub = only("Mystery", ["x"], {}, domain="my.company")
    assert kind_of(hub.nodes()[0]) == "other" and weight_of(hub.nodes()[0]) is None


def test_every_row_is_an_operator_that_exists():
    from fewbit.graph.ops import OPS

    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    # SimplifiedLayerNormalization is ONNX Runtime's, registered under ONNX's own domain.
    assert {name for name in OPS if "." not in name} - known == {"SimplifiedLayerNormalization"}


def test_conv_channel_axis():
    assert info_of(only("Conv", ["x", "w"], {"w": (8, 3, 3, 3)}).nodes()[0]).channel_axis == 1
