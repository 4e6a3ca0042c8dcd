from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from fewbit.graph.facts import (
    Pattern,
    attention_mask_adds,
    bias_add,
    clip_bounds,
    detection_tails,
    find_patterns,
    fused_activation,
    gelu,
    hard_swish,
    silu,
    softmax_inputs,
    state_inputs,
    tied_weights,
)
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.shapes import infer_shapes

from .build import model, node, weights

INF = float("inf")


def hub_of(nodes: list[onnx.NodeProto], shape: str = "[2,4]", **constants) -> Hub:
    """x in, y out, before normalization; constants by keyword."""
    arrays = {k: np.asarray(v, np.float32) if not isinstance(v, np.ndarray) else v for k, v in constants.items()}
    hub = load(model(nodes, [f"x:f{shape}"], ["y:f"], arrays), normalize=False)
    infer_shapes(hub.model)
    return hub


class TestFusedActivation:
    @pytest.mark.parametrize(
        ("activation", "bounds"),
        [
            (node("Relu", ["h"], ["y"]), (0, INF)),
            (node("Clip", ["h", "zero", "six"], ["y"]), (0, 6)),
            (node("Clip", ["h", "", "six"], ["y"]), (-INF, 6)),
            (node("Clip", ["h", "zero"], ["y"]), (0, INF)),
            (node("Sigmoid", ["h"], ["y"]), None),
            (node("Clip", ["h", "x0"], ["y"]), None),
        ],
    )
    def test_kinds(self, activation, bounds):
        first = [node("ReduceMax", ["x"], ["x0"], keepdims=0), node("Neg", ["x"], ["h"])]
        hub = hub_of([*first, activation], zero=0, six=6)
        found = fused_activation(hub.nodes()[1])
        assert (found and (found.lo, found.hi)) == bounds
        assert found is None or found.node is hub.nodes()[2]

    def test_two_readers(self):
        hub = hub_of([node("Neg", ["x"], ["h"]), node("Relu", ["h"], ["r"]), node("Add", ["r", "h"], ["y"])])
        assert fused_activation(hub.nodes()[0]) is None

    def test_a_value_that_is_an_output(self):
        proto = model([node("Neg", ["x"], ["h"]), node("Relu", ["h"], ["y"])], ["x:f[2]"], ["y:f", "h:f"])
        assert fused_activation(load(proto).nodes()[0]) is None

    def test_no_reader(self):
        assert fused_activation(hub_of([node("Neg", ["x"], ["y"])]).nodes()[0]) is None

    def test_bounds_of_other_operators(self):
        assert clip_bounds(hub_of([node("Neg", ["x"], ["y"])]).nodes()[0]) is None


class TestBiasAdd:
    @pytest.mark.parametrize("operands", [["h", "b"], ["b", "h"]])
    @pytest.mark.parametrize("shape", [(4,), (1, 1, 4), (1,)])
    def test_vector(self, operands, shape):
        hub = hub_of(
            [node("MatMul", ["x", "w"], ["h"]), node("Add", operands, ["y"])],
            "[2,3,4]",
            w=weights(4, 4),
            b=weights(*shape),
        )
        assert bias_add(hub.nodes()[0]) is hub.nodes()[1]

    @pytest.mark.parametrize("shape", [(3, 4), (3, 1), (), (1, 1, 1, 4)])
    def test_not_a_vector(self, shape):
        b = weights(*shape) if shape else np.float32(1)
        hub = hub_of(
            [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])], "[2,3,4]", w=weights(4, 4), b=b
        )
        assert bias_add(hub.nodes()[0]) is None


# Each: nodes from x to y, and constants.
SPELLINGS: dict[str, list[tuple[str, list[onnx.NodeProto], dict[str, float]]]] = {
    "silu": [
        ("mul", [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])], {}),
        ("other way round", [node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"], ["y"])], {}),
        (
            "by exp",
            [
                node("Neg", ["x"], ["n"]),
                node("Exp", ["n"], ["e"]),
                node("Add", ["one", "e"], ["d"]),
                node("Div", ["x", "d"], ["y"]),
            ],
            {"one": 1},
        ),
    ],
    "hard_swish": [
        (
            "by HardSigmoid",
            [node("HardSigmoid", ["x"], ["s"], alpha=1 / 6, beta=0.5), node("Mul", ["x", "s"], ["y"])],
            {},
        ),
        (
            "product, then division",
            [
                node("Add", ["x", "three"], ["a"]),
                node("Clip", ["a", "zero", "six"], ["c"]),
                node("Mul", ["x", "c"], ["m"]),
                node("Div", ["m", "six"], ["y"]),
            ],
            {"three": 3, "zero": 0, "six": 6},
        ),
        (
            "division, then product",
            [
                node("Add", ["x", "three"], ["a"]),
                node("Clip", ["a", "zero", "six"], ["c"]),
                node("Mul", ["c", "sixth"], ["m"]),
                node("Mul", ["m", "x"], ["y"]),
            ],
            {"three": 3, "zero": 0, "six": 6, "sixth": 1 / 6},
        ),
        (
            "by Relu6 of Min",
            [
                node("Add", ["three", "x"], ["a"]),
                node("Relu", ["a"], ["r"]),
                node("Min", ["r", "six"], ["c"]),
                node("Div", ["c", "six"], ["m"]),
                node("Mul", ["x", "m"], ["y"]),
            ],
            {"three": 3, "six": 6},
        ),
    ],
    "gelu": [
        (
            "as torch exports it",
            [
                node("Div", ["x", "root"], ["d"]),
                node("Erf", ["d"], ["e"]),
                node("Add", ["e", "one"], ["a"]),
                node("Mul", ["x", "a"], ["m"]),
                node("Mul", ["m", "half"], ["y"]),
            ],
            {"root": math.sqrt(2), "one": 1, "half": 0.5},
        ),
        (
            "half first",
            [
                node("Mul", ["x", "half"], ["h"]),
                node("Mul", ["x", "inverse"], ["d"]),
                node("Erf", ["d"], ["e"]),
                node("Add", ["one", "e"], ["a"]),
                node("Mul", ["h", "a"], ["y"]),
            ],
            {"inverse": 1 / math.sqrt(2), "one": 1, "half": 0.5},
        ),
    ],
    "gelu_tanh": [
        (
            "by Pow",
            [
                node("Pow", ["x", "three"], ["p"]),
                node("Mul", ["p", "k"], ["q"]),
                node("Add", ["x", "q"], ["r"]),
                node("Mul", ["r", "c"], ["t"]),
                node("Tanh", ["t"], ["u"]),
                node("Add", ["u", "one"], ["a"]),
                node("Mul", ["x", "a"], ["m"]),
                node("Mul", ["m", "half"], ["y"]),
            ],
            {"three": 3, "k": 0.044715, "c": math.sqrt(2 / math.pi), "one": 1, "half": 0.5},
        ),
        (
            "by products",
            [
                node("Mul", ["x", "x"], ["p"]),
                node("Mul", ["p", "k"], ["q"]),
                node("Add", ["one", "q"], ["r"]),
                node("Mul", ["x", "c"], ["s"]),
                node("Mul", ["s", "r"], ["t"]),
                node("Tanh", ["t"], ["u"]),
                node("Add", ["u", "one"], ["a"]),
                node("Mul", ["x", "half"], ["h"]),
                node("Mul", ["h", "a"], ["y"]),
            ],
            {"k": 0.044715, "c": math.sqrt(2 / math.pi), "one": 1, "half": 0.5},
        ),
    ],
    "quick_gelu": [
        (
            "clip",
            [node("Mul", ["x", "k"], ["m"]), node("Sigmoid", ["m"], ["s"]), node("Mul", ["x", "s"], ["y"])],
            {"k": 1.702},
        )
    ],
    "mish": [("mul", [node("Softplus", ["x"], ["p"]), node("Tanh", ["p"], ["t"]), node("Mul", ["x", "t"], ["y"])], {})],
    "hard_sigmoid": [
        (
            "relu6",
            [
                node("Add", ["x", "three"], ["a"]),
                node("Clip", ["a", "zero", "six"], ["c"]),
                node("Div", ["c", "six"], ["y"]),
            ],
            {"three": 3, "zero": 0, "six": 6},
        )
    ],
    "rms_norm": [
        (
            "sqrt and div",
            [
                node("Pow", ["x", "two"], ["p"]),
                node("ReduceMean", ["p"], ["m"], axes=[-1]),
                node("Add", ["m", "eps"], ["a"]),
                node("Sqrt", ["a"], ["s"]),
                node("Div", ["x", "s"], ["n"]),
                node("Mul", ["n", "w"], ["y"]),
            ],
            {"two": 2, "eps": 1e-5, "w": [1, 2, 3, 4]},
        ),
        (
            "reciprocal",
            [
                node("Mul", ["x", "x"], ["p"]),
                node("ReduceMean", ["p"], ["m"], axes=[1]),
                node("Add", ["eps", "m"], ["a"]),
                node("Sqrt", ["a"], ["s"]),
                node("Div", ["one", "s"], ["r"]),
                node("Mul", ["x", "r"], ["n"]),
                node("Mul", ["w", "n"], ["y"]),
            ],
            {"one": 1, "eps": 1e-5, "w": [1, 2, 3, 4]},
        ),
    ],
    "layer_norm": [
        (
            "as torch exports it",
            [
                node("ReduceMean", ["x"], ["c"], axes=[-1]),
                node("Sub", ["x", "c"], ["d"]),
                node("Pow", ["d", "two"], ["p"]),
                node("ReduceMean", ["p"], ["m"], axes=[-1]),
                node("Add", ["m", "eps"], ["a"]),
                node("Sqrt", ["a"], ["s"]),
                node("Div", ["d", "s"], ["n"]),
                node("Mul", ["n", "w"], ["k"]),
                node("Add", ["k", "b"], ["y"]),
            ],
            {"two": 2, "eps": 1e-5, "w": [1, 2, 3, 4], "b": [1, 2, 3, 4]},
        )
    ],
}


@pytest.mark.parametrize(
    ("kind", "nodes", "constants"),
    [pytest.param(k, n, c, id=f"{k}, {name}") for k, spellings in SPELLINGS.items() for name, n, c in spellings],
)
def test_spellings(kind, nodes, constants):
    hub = hub_of(nodes, **constants)
    patterns = find_patterns(hub)
    assert [(p.kind, p.input.name, p.output.name, len(p.nodes)) for p in patterns] == [(kind, "x", "y", len(nodes))]
    (normal,) = find_patterns(load(hub))
    assert normal.kind == kind


def last(nodes: list[onnx.NodeProto], **constants) -> onnx.NodeProto:
    return hub_of(nodes, **constants).nodes()[-1]


def test_named_functions():
    by_kind = {kind: last(spellings[0][1], **spellings[0][2]) for kind, spellings in SPELLINGS.items()}
    for function, kinds in ((silu, {"silu"}), (hard_swish, {"hard_swish"}), (gelu, {"gelu", "gelu_tanh"})):
        assert {kind for kind, final in by_kind.items() if isinstance(function(final), Pattern)} == kinds


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "s"], ["y"])],
        [node("Relu", ["x"], ["r"]), node("Sigmoid", ["x"], ["s"]), node("Mul", ["r", "s"], ["y"])],
        [node("HardSigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])],  # alpha is 0.2, not 1/6
        [node("Tanh", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])],
        [
            node("Sigmoid", ["x"], ["s"]),
            node("Mul", ["x", "s"], ["m"]),
            node("Add", ["m", "s"], ["y"]),
        ],  # s is read again
    ],
)
def test_lookalikes(nodes):
    assert find_patterns(hub_of(nodes)) == []


def test_two_inputs_are_no_activation():
    proto = model([node("Sigmoid", ["z"], ["s"]), node("Mul", ["x", "s"], ["y"])], ["x:f[2]", "z:f[2]"], ["y:f"])
    assert find_patterns(load(proto)) == []


class TestMasks:
    def scores(
        self,
        mask_nodes: list[onnx.NodeProto],
        inputs: list[str],
        constants: dict,
        after: list[onnx.NodeProto] | None = None,
    ):
        nodes = [node("MatMul", ["q", "k"], ["s"]), *mask_nodes, *(after or [node("Softmax", ["masked"], ["y"])])]
        return load(model(nodes, ["q:f[1,2,L,8]", "k:f[1,2,8,L]", *inputs], ["y:f"], constants))

    def test_a_constant(self):
        for lowest in (-10000.0, -1e9, -INF):
            mask = np.triu(np.full((4, 4), lowest, np.float32), 1)
            (found,) = attention_mask_adds(self.scores([node("Add", ["s", "m"], ["masked"])], [], {"m": mask}))
            assert (found.node.op_type, found.scores.name, found.mask.name, found.lowest) == (
                "Add",
                "s",
                "m",
                np.float32(lowest),
            )

    def test_computed_from_an_integer_mask(self):
        nodes = [
            node("Unsqueeze", ["mask", "axes"], ["u"]),
            node("Cast", ["u"], ["f"], to=1),
            node("Sub", ["one", "f"], ["inverse"]),
            node("Mul", ["inverse", "low"], ["m"]),
            node("Add", ["s", "m"], ["masked"]),
        ]
        hub = self.scores(
            nodes, ["mask:i[1,L]"], {"axes": np.array([1, 2]), "one": np.float32(1), "low": np.float32(-10000)}
        )
        (found,) = attention_mask_adds(hub)
        assert (found.scores.name, found.mask.name, found.lowest) == ("s", "m", -10000)

    def test_a_positive_number_that_is_subtracted(self):
        nodes = [
            node("Cast", ["mask"], ["f"], to=1),
            node("Mul", ["f", "high"], ["m"]),
            node("Sub", ["s", "m"], ["masked"]),
        ]
        (found,) = attention_mask_adds(self.scores(nodes, ["mask:b[1,1,L,L]"], {"high": np.float32(1e4)}))
        assert (found.node.op_type, found.lowest) == ("Sub", -1e4)

    def test_chosen_by_where(self):
        nodes = [node("Where", ["mask", "s", "low"], ["masked"])]
        (found,) = attention_mask_adds(self.scores(nodes, ["mask:b[1,1,L,L]"], {"low": np.float32(-3.4e38)}))
        assert (found.node.op_type, found.scores.name, found.mask.name) == ("Where", "s", "low")

    def test_where_makes_the_mask(self):
        nodes = [node("Where", ["mask", "zero", "low"], ["m"]), node("Add", ["m", "s"], ["masked"])]
        (found,) = attention_mask_adds(
            self.scores(nodes, ["mask:b[1,1,L,L]"], {"low": np.float32(-1e4), "zero": np.float32(0)})
        )
        assert (found.node.op_type, found.scores.name, found.mask.name) == ("Add", "s", "m")

    def test_moves_between_the_mask_and_the_softmax(self):
        after = [node("Reshape", ["masked", "shape"], ["r"]), node("Softmax", ["r"], ["y"])]
        hub = self.scores(
            [node("Add", ["s", "m"], ["masked"])],
            [],
            {"m": np.float32([[-1e4]]), "shape": np.array([0, 0, 0, -1])},
            after,
        )
        assert len(attention_mask_adds(hub)) == 1

    def test_a_position_bias_is_no_mask(self):
        hub = self.scores([node("Add", ["s", "m"], ["masked"])], [], {"m": np.float32([[-20, 3], [0, 5]])})
        assert attention_mask_adds(hub) == []

    def test_no_softmax(self):
        hub = self.scores(
            [node("Add", ["s", "m"], ["masked"])], [], {"m": np.float32([[-1e4]])}, [node("Relu", ["masked"], ["y"])]
        )
        assert attention_mask_adds(hub) == [] and softmax_inputs(hub) == []

    def test_a_large_weight_is_no_mask(self):
        """Scores scaled by a large negative constant."""
        hub = self.scores(
            [node("Mul", ["s", "low"], ["m"]), node("Add", ["s", "m"], ["masked"])], [], {"low": np.float32(-1e4)}
        )
        assert attention_mask_adds(hub) == []


class TestStates:
    def test_lstm(self):
        nodes = [
            node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["s", "hn", "c1"], hidden_size=4),
            node("Squeeze", ["s", "one"], ["y"]),
            node("Identity", ["c1"], ["cn"]),
        ]
        proto = model(
            nodes,
            ["x:f[3,1,5]", "c:f[1,1,4]", "h:f[1,1,4]"],
            ["y:f", "hn:f", "cn:f"],
            {"w": weights(1, 16, 5), "r": weights(1, 16, 4), "one": np.array([1])},
        )
        states = state_inputs(load(proto))
        assert [(s.input, s.output, s.kind) for s in states] == [("c", "cn", "recurrent"), ("h", "hn", "recurrent")]

    def test_states_in_one_tensor(self):
        nodes = [
            node("Split", ["hc"], ["h", "c"], axis=0),
            node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["y", "hn", "cn"], hidden_size=4),
            node("Concat", ["hn", "cn"], ["next"], axis=0),
        ]
        proto = model(
            nodes, ["x:f[3,1,5]", "hc:f[2,1,4]"], ["y:f", "next:f"], {"w": weights(1, 16, 5), "r": weights(1, 16, 4)}
        )
        (state,) = state_inputs(load(proto))
        assert state.input == "hc" and state.kind == "recurrent"

    def test_key_value_cache(self):
        nodes = [node("Concat", ["past", "x"], ["present"], axis=2), node("MatMul", ["x", "present"], ["y"])]
        proto = model(nodes, ["x:f[1,2,8,8]", "past:f[1,2,P,8]"], ["y:f", "present:f"])
        states = state_inputs(load(proto))
        assert ("past", "present", "cache") in [(s.input, s.output, s.kind) for s in states]

    def test_a_concat_that_is_no_output(self):
        nodes = [node("Concat", ["x", "z"], ["both"], axis=1), node("Relu", ["both"], ["y"])]
        assert state_inputs(load(model(nodes, ["x:f[1,2]", "z:f[1,2]"], ["y:f"]))) == []

    def test_none(self):
        assert state_inputs(hub_of([node("Relu", ["x"], ["y"])])) == []


class TestDetectionTails:
    def test_boxes_and_classes(self):
        nodes = [
            node("Conv", ["x", "w1"], ["box"]),
            node("Conv", ["x", "w2"], ["score"]),
            node("Sigmoid", ["score"], ["p"]),
            node("Concat", ["box", "p"], ["both"], axis=1),
            node("Reshape", ["both", "s"], ["flat"]),
            node("Transpose", ["flat"], ["y"], perm=[0, 2, 1]),
        ]
        hub = load(
            model(
                nodes,
                ["x:f[1,3,8,8]"],
                ["y:f"],
                {"w1": weights(4, 3, 1, 1), "w2": weights(2, 3, 1, 1), "s": np.array([1, 6, 64])},
            )
        )
        (tail,) = detection_tails(hub)
        assert tail.output == "y" and [n.outputs[0].name for n in tail.heads] == ["box", "score"]
        assert [n.op_type for n in tail.concats] == ["Concat"] and len(tail.nodes) == 4

    def test_a_classifier_has_none(self):
        nodes = [node("Gemm", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"])]
        assert detection_tails(hub_of(nodes, w=weights(4, 4))) == []

    def test_two_outputs_are_not_joined(self):
        nodes = [node("Gemm", ["x", "w"], ["y"]), node("Gemm", ["x", "v"], ["z"])]
        proto = model(nodes, ["x:f[2,4]"], ["y:f", "z:f"], {"w": weights(4, 4), "v": weights(4, 4)})
        assert detection_tails(load(proto)) == []


def test_tied_weights():
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "w"], ["b"]), node("MatMul", ["b", "v"], ["y"])]
    hub = hub_of(nodes, w=weights(4, 4), v=weights(4, 4))
    assert {name: [n.outputs[0].name for n in readers] for name, readers in tied_weights(hub).items()} == {
        "w": ["a", "b"]
    }
