"""What the hub does not work on passes through unharmed: the same outputs before and after."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fewbit.graph.info import TensorInfo
from fewbit.graph.load import load
from fewbit.graph.save import save

from .build import graph, kinds, model, node, normalized, run, weights


def both(feed: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    return [{**feed, "c": np.array(flag)} for flag in (True, False)]


class TestIf:
    def test_captures_weights_and_folds_around(self):
        """The branches read an outer weight and an outer Conv whose BatchNormalization would be folded."""
        then = graph([node("MatMul", ["h", "w"], ["m"]), node("Identity", ["m"], ["t"])], [], ["t:f"])
        other = graph([node("Constant", [], ["k"], value_float=2.0), node("Mul", ["d", "k"], ["e"])], [], ["e:f"])
        proto = model(
            [
                node("Identity", ["x"], ["i"]),
                node("Relu", ["i"], ["h"]),
                node("Dropout", ["h"], ["d"]),
                node("If", ["c"], ["r"], then_branch=then, else_branch=other),
                node("Identity", ["r"], ["y"]),
            ],
            ["x:f[2,4]", "c:b[]"],
            ["y:f"],
            {"w": weights(4, 4)},
        )
        hub = normalized(proto, *both({"x": weights(2, 4)}))
        assert kinds(hub) == ["Relu", "If"]

    def test_a_weight_used_only_inside(self):
        then = graph([node("MatMul", ["x", "w"], ["t"])], [], ["t:f"])
        other = graph([node("Neg", ["x"], ["e"])], [], ["e:f"])
        proto = model(
            [node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
            ["x:f[2,4]", "c:b[]"],
            ["y:f"],
            {"w": weights(4, 4)},
        )
        hub = normalized(proto, *both({"x": weights(2, 4)}))
        assert list(hub.graph.initializers) == ["w"]

    def test_branches_with_initializers_of_their_own(self):
        then = graph([node("Add", ["x", "k"], ["t"])], [], ["t:f"], {"k": np.float32(1)})
        other = graph([node("Add", ["x", "k"], ["t"])], [], ["t:f"], {"k": np.float32(2)})
        proto = model([node("If", ["c"], ["y"], then_branch=then, else_branch=other)], ["x:f[2]", "c:b[]"], ["y:f"])
        normalized(proto, *both({"x": weights(2)}))

    def test_nested(self):
        inner = [graph([node(op, ["h"], ["u"])], [], ["u:f"]) for op in ("Neg", "Abs")]
        then = graph([node("If", ["c"], ["t"], then_branch=inner[0], else_branch=inner[1])], [], ["t:f"])
        other = graph([node("Sqrt", ["h"], ["e"])], [], ["e:f"])
        proto = model(
            [node("Relu", ["x"], ["h"]), node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
            ["x:f[2]", "c:b[]"],
            ["y:f"],
        )
        normalized(proto, *both({"x": weights(2)}))

    def test_an_unused_if_releases_what_it_captured(self):
        branch = graph([node("MatMul", ["h", "w"], ["t"])], [], ["t:f"])
        proto = model(
            [
                node("Relu", ["x"], ["h"]),
                node("If", ["c"], ["unused"], then_branch=branch, else_branch=branch),
                node("Neg", ["x"], ["y"]),
            ],
            ["x:f[4,4]", "c:b[]"],
            ["y:f"],
            {"w": weights(4, 4)},
        )
        hub = normalized(proto, *both({"x": weights(4, 4)}))
        assert kinds(hub) == ["Neg"] and len(hub.graph.initializers) == 0


def test_loop():
    body = graph(
        [node("Add", ["s", "w"], ["n"]), node("Identity", ["n"], ["scan"]), node("Identity", ["cond"], ["go"])],
        ["i:i[]", "cond:b[]", "s:f[3]"],
        ["go:b[]", "n:f[3]", "scan:f[3]"],
    )
    proto = model(
        [node("Loop", ["times", "", "x"], ["last", "all"], body=body)],
        ["x:f[3]", "times:i[]"],
        ["last:f", "all:f"],
        {"w": weights(3)},
    )
    normalized(proto, {"x": weights(3), "times": np.array(4)})


def test_scan():
    body = graph(
        [node("Add", ["s", "e"], ["n"]), node("Identity", ["n"], ["o"])], ["s:f[3]", "e:f[3]"], ["n:f[3]", "o:f[3]"]
    )
    proto = model(
        [node("Scan", ["x", "xs"], ["last", "all"], body=body, num_scan_inputs=1)],
        ["x:f[3]", "xs:f[5,3]"],
        ["last:f", "all:f"],
    )
    normalized(proto, {"x": weights(3), "xs": weights(5, 3)})


@pytest.mark.parametrize(("op_type", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_with_states(op_type, gates):
    states = ["h0", "c0"] if op_type == "LSTM" else ["h0"]
    outputs = ["hn", "cn"] if op_type == "LSTM" else ["hn"]
    proto = model(
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node(op_type, ["t", "w", "r", "b", "", *states], ["seq", *outputs], hidden_size=4),
            node("Squeeze", ["seq", "one"], ["y"]),
        ],
        ["x:f[1,N,5]", *(f"{s}:f[1,1,4]" for s in states)],
        ["y:f", *(f"{o}:f" for o in outputs)],
        {
            "w": weights(1, gates * 4, 5),
            "r": weights(1, gates * 4, 4),
            "b": weights(1, gates * 8),
            "one": np.array([1]),
        },
    )
    normalized(proto, {"x": weights(1, 6, 5), **{s: weights(1, 1, 4) for s in states}})


def test_inputs_of_every_type():
    nodes = [
        node("Gather", ["table", "ids"], ["rows"]),
        node("Where", ["mask", "rows", "zero"], ["kept"]),
        node("Not", ["mask"], ["inverse"]),
        node("Identity", ["words"], ["same"]),
        node("Equal", ["ids", "three"], ["is_three"]),
        node("Shape", ["words"], ["count"]),
    ]
    proto = model(
        nodes,
        ["ids:i[N]", "mask:b[N,1]", "words:s[M]"],
        ["kept:f", "inverse:b", "same:s", "is_three:b", "count:i"],
        {"table": weights(10, 3), "zero": np.float32(0), "three": np.array(3)},
    )
    hub = normalized(
        proto,
        {
            "ids": np.array([1, 3]),
            "mask": np.array([[True], [False]]),
            "words": np.array(["a", "b", "c"], dtype=object),
        },
    )
    assert hub.inputs[1:] == [
        TensorInfo("mask", np.dtype(bool), ("N", 1)),
        TensorInfo("words", np.dtype(object), ("M",)),
    ]


def test_strings_as_constants(tmp_path):
    proto = model(
        [node("Identity", ["words"], ["y"]), node("Relu", ["x"], ["z"])],
        ["x:f[1]"],
        ["y:s", "z:f"],
        {"words": np.array(["a", "b"], dtype=object)},
    )
    hub = normalized(proto, {"x": weights(1)})
    for options in ({}, {"compact": True}, {"external_above": 0}):
        save(hub.model, tmp_path / "m.onnx", **options)
        assert run(load(tmp_path / "m.onnx"), {"x": weights(1)})[0].tolist() == ["a", "b"]


def test_sequences():
    sequence = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    proto = model(
        [
            node("SequenceConstruct", ["x", "z"], ["built"]),
            node("SplitToSequence", ["x"], ["parts"], axis=0),
            node("SequenceAt", ["built", "one"], ["y"]),
        ],
        ["x:f[2,3]", "z:f[2,3]"],
        ["y:f", sequence],
        {"one": np.array(1)},
    )
    hub = normalized(proto, {"x": weights(2, 3), "z": weights(2, 3)})
    assert hub.outputs[1] == TensorInfo("parts", None, None)


def test_constant_sequences_are_not_folded():
    proto = model(
        [
            node("SplitToSequence", ["k"], ["parts"], axis=0),
            node("SequenceAt", ["parts", "i"], ["p"]),
            node("Add", ["x", "p"], ["y"]),
        ],
        ["x:f[1,3]", "i:i[]"],
        ["y:f"],
        {"k": weights(2, 3)},
    )
    normalized(proto, {"x": weights(1, 3), "i": np.array(1)})


def test_functions_are_inlined():
    function = helper.make_function(
        "my",
        "Swish",
        ["a"],
        ["b"],
        [node("Sigmoid", ["a"], ["s"]), node("Mul", ["a", "s"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    proto = model(
        [node("Swish", ["x"], ["h"], domain="my"), node("Swish", ["h"], ["y"], domain="my")],
        ["x:f[N,3]"],
        ["y:f"],
        domains=["my"],
        functions=[function],
    )
    hub = normalized(proto, {"x": weights(2, 3)})
    assert kinds(hub) == ["Sigmoid", "Mul"] * 2
    assert len(hub.model.functions) == 0


def test_functions_with_attributes_and_subgraphs():
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    function = helper.make_function("my", "Leaky", ["a"], ["b"], [leaky], [helper.make_opsetid("", 17)], ["slope"])
    branches = [graph([node("Leaky", ["x"], ["t"], domain="my", slope=slope)], [], ["t:f"]) for slope in (0.1, 0.5)]
    proto = model(
        [node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])],
        ["x:f[3]", "c:b[]"],
        ["y:f"],
        domains=["my"],
        functions=[function],
    )
    normalized(proto, *both({"x": weights(3)}))


def test_the_same_weight_for_two_matmuls_stays_one():
    proto = model(
        [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["r"]), node("MatMul", ["r", "w"], ["y"])],
        ["x:f[2,4]"],
        ["y:f"],
        {"w": weights(4, 4)},
    )
    hub = normalized(proto, {"x": weights(2, 4)})
    assert list(hub.graph.initializers) == ["w"] and hub.nodes()[0].inputs[1] is hub.nodes()[2].inputs[1]


def test_an_output_that_is_an_input_or_a_constant():
    proto = model([node("Relu", ["x"], ["y"])], ["x:f[2]"], ["y:f", "x:f[2]", "k:f[2]"], {"k": weights(2)})
    normalized(proto, {"x": weights(2)})


def test_custom_operators_keep_their_place(tmp_path):
    proto = model(
        [
            node("Conv", ["x", "w"], ["h"]),
            node("Mystery", ["h", ""], ["m", ""], domain="my.company", level=3),
            node("Identity", ["m"], ["i"]),
            node("Relu", ["i"], ["y"]),
        ],
        ["x:f[1,3,8,8]"],
        ["y:f"],
        {"w": weights(4, 3, 3, 3)},
        domains=["my.company"],
    )
    hub = normalized(proto)
    assert kinds(hub) == ["Conv", "Mystery", "Relu"]
    save(hub.model, tmp_path / "m.onnx", compact=True)
    saved = onnx.load(tmp_path / "m.onnx").graph.node[1]
    assert saved.domain == "my.company" and len(saved.input) >= 1 and saved.attribute[0].i == 3


def test_half_and_double_models_pass():
    for dtype, kind in ((np.float16, TensorProto.FLOAT16), (np.float64, TensorProto.DOUBLE)):
        x = weights(2, 4).astype(dtype)
        ends = [helper.make_tensor_value_info(name, kind, None if name == "y" else [2, 4]) for name in "xy"]
        constants = {"w": weights(4, 4).astype(dtype), "k": weights(4).astype(dtype), "d": dtype(3)}
        proto = model(
            [node("MatMul", ["x", "w"], ["m"]), node("Mul", ["m", "k"], ["n"]), node("Div", ["n", "d"], ["y"])],
            [ends[0]],
            [ends[1]],
            constants,
        )
        assert kinds(normalized(proto, {"x": x})) == ["MatMul", "Mul", "Div"]
