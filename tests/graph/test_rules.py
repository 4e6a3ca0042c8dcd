"""Each rule: what it rewrites, that the numbers stay, and what it declines and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from fewbit.errors import ModelError
from fewbit.graph.load import load

from .build import declined, graph, kinds, model, node, normalized, weights


def image(*shape: int) -> dict[str, np.ndarray]:
    return {"x": weights(*shape)}


def bn_constants(channels: int, prefix: str = "") -> dict[str, np.ndarray]:
    return {
        f"{prefix}s": weights(channels),
        f"{prefix}b": weights(channels),
        f"{prefix}m": weights(channels),
        f"{prefix}v": np.abs(weights(channels)) + 0.1,
    }


def bn(source: str, target: str, prefix: str = "", **attributes) -> onnx.NodeProto:
    return node("BatchNormalization", [source, *(f"{prefix}{c}" for c in "sbmv")], [target], **attributes)


class TestBatchNorm:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize(
        ("op_type", "shape", "groups", "channels"),
        [
            ("Conv", (8, 4, 3, 3), 1, 8),
            ("Conv", (8, 2, 3, 3), 2, 8),
            ("Conv", (4, 1, 3, 3), 4, 4),
            ("ConvTranspose", (4, 6, 3, 3), 1, 6),
            ("ConvTranspose", (4, 3, 3, 3), 2, 6),
        ],
    )
    def test_after_a_convolution(self, op_type, shape, groups, channels, bias):
        constants = {"w": weights(*shape), **bn_constants(channels)}
        if bias:
            constants["c"] = weights(channels)
        proto = model(
            [
                node(op_type, ["x", "w", *(["c"] if bias else [])], ["h"], group=groups),
                bn("h", "n", epsilon=1e-3),
                node("Relu", ["n"], ["y"]),
            ],
            ["x:f[N,4,8,8]"],
            ["y:f"],
            constants,
        )
        hub = normalized(proto, image(2, 4, 8, 8))
        assert kinds(hub) == [op_type, "Relu"]
        assert hub.nodes()[0].outputs[0].name == "n"  # the name stands for the same numbers as before
        assert len(hub.graph.initializers) == 2

    @pytest.mark.parametrize("trans_b", [0, 1])
    @pytest.mark.parametrize("bias", [None, (6,), (1,), (1, 6)])
    def test_after_gemm(self, trans_b, bias):
        constants = {"w": weights(*((6, 5) if trans_b else (5, 6))), **bn_constants(6)}
        if bias is not None:
            constants["c"] = weights(*bias)
        gemm = node("Gemm", ["x", "w", *(["c"] if bias else [])], ["h"], transB=trans_b, alpha=0.5, beta=2.0)
        proto = model([gemm, bn("h", "y")], ["x:f[N,5]"], ["y:f"], constants)
        assert kinds(normalized(proto, image(3, 5))) == ["Gemm"]

    def test_after_matmul(self):
        """The shift becomes an Add, which becomes the bias of a Gemm."""
        proto = model(
            [node("MatMul", ["x", "w"], ["h"]), bn("h", "y")],
            ["x:f[N,5]"],
            ["y:f"],
            {"w": weights(5, 6), **bn_constants(6)},
        )
        assert kinds(normalized(proto, image(3, 5))) == ["Gemm"]

    def test_before_matmul(self):
        proto = model(
            [bn("x", "n"), node("MatMul", ["n", "w"], ["y"])],
            ["x:f[N,5]"],
            ["y:f"],
            {"w": weights(5, 6), **bn_constants(5)},
        )
        hub = normalized(proto, image(3, 5))
        assert kinds(hub) == ["BatchNormalization", "MatMul"]
        assert "has no bias" in declined(hub, "fold_batch_norm")[0]

    @pytest.mark.parametrize("groups", [1, 2])
    def test_before_a_convolution(self, groups):
        proto = model(
            [bn("x", "n"), node("Conv", ["n", "w"], ["y"], group=groups)],
            ["x:f[N,4,8,8]"],
            ["y:f"],
            {"w": weights(6, 4 // groups, 3, 3), **bn_constants(4)},
        )
        assert kinds(normalized(proto, image(2, 4, 8, 8))) == ["Conv"]

    @pytest.mark.parametrize("trans_b", [0, 1])
    def test_before_gemm(self, trans_b):
        constants = {"w": weights(*((6, 5) if trans_b else (5, 6))), "c": weights(6), **bn_constants(5)}
        proto = model(
            [bn("x", "n"), node("Gemm", ["n", "w", "c"], ["y"], transB=trans_b, alpha=0.5)],
            ["x:f[N,5]"],
            ["y:f"],
            constants,
        )
        assert kinds(normalized(proto, image(3, 5))) == ["Gemm"]

    def test_padding_would_be_wrong(self):
        proto = model(
            [bn("x", "n"), node("Conv", ["n", "w"], ["y"], pads=[1, 1, 1, 1])],
            ["x:f[N,4,8,8]"],
            ["y:f"],
            {"w": weights(6, 4, 3, 3), **bn_constants(4)},
        )
        hub = normalized(proto, image(2, 4, 8, 8))
        assert kinds(hub) == ["BatchNormalization", "Conv"]
        assert "pads with zeros" in declined(hub, "fold_batch_norm")[0]

    def test_a_scale_alone_may_be_padded(self):
        constants = {"w": weights(6, 4, 3, 3), **bn_constants(4)}
        constants["b"] = constants["m"] = np.zeros(4, np.float32)
        proto = model(
            [bn("x", "n"), node("Conv", ["n", "w"], ["y"], pads=[1, 1, 1, 1])], ["x:f[N,4,8,8]"], ["y:f"], constants
        )
        assert kinds(normalized(proto, image(2, 4, 8, 8))) == ["Conv"]

    def test_another_reader_of_the_convolution(self):
        proto = model(
            [node("Conv", ["x", "w"], ["h"]), bn("h", "n"), node("Add", ["h", "n"], ["y"])],
            ["x:f[N,4,8,8]"],
            ["y:f"],
            {"w": weights(4, 4, 3, 3), **bn_constants(4)},
        )
        hub = normalized(proto, image(2, 4, 8, 8))
        assert "BatchNormalization" in kinds(hub)
        assert "'h' is read elsewhere too" in declined(hub, "fold_batch_norm")[0]

    def test_a_convolution_that_is_an_output(self):
        proto = model(
            [node("Conv", ["x", "w"], ["h"]), bn("h", "y")],
            ["x:f[N,4,8,8]"],
            ["y:f", "h:f"],
            {"w": weights(4, 4, 3, 3), **bn_constants(4)},
        )
        assert kinds(normalized(proto, image(2, 4, 8, 8))) == ["Conv", "BatchNormalization"]

    def test_shared_weights_are_copied_for_one_reader_alone(self):
        constants = {"w": weights(4, 4, 3, 3), "c": weights(4), **bn_constants(4, "1"), **bn_constants(4, "2")}
        proto = model(
            [
                node("Conv", ["x", "w", "c"], ["h1"]),
                bn("h1", "y1", "1"),
                node("Conv", ["x", "w", "c"], ["h2"]),
                bn("h2", "y2", "2"),
                node("Conv", ["x", "w", "c"], ["y3"]),
            ],
            ["x:f[N,4,8,8]"],
            ["y1:f", "y2:f", "y3:f"],
            constants,
        )
        hub = normalized(proto, image(2, 4, 8, 8))
        assert kinds(hub) == ["Conv"] * 3
        assert len({n.inputs[1].name for n in hub.nodes()}) == 3
        np.testing.assert_array_equal(hub.constant(hub.value("w")), constants["w"])

    def test_training_mode(self):
        statistics = node("BatchNormalization", ["x", *"sbmv"], ["n", "rm", "rv"], training_mode=1)
        proto = model(
            [statistics, node("Conv", ["n", "w"], ["y"])],
            ["x:f[2,4,8,8]"],
            ["y:f"],
            {"w": weights(4, 4, 1, 1), **bn_constants(4)},
        )
        hub = normalized(proto, image(2, 4, 8, 8))
        assert "training mode" in declined(hub, "fold_batch_norm")[0]


class TestAffine:
    @pytest.mark.parametrize(
        ("op_type", "first"), [("Mul", 0), ("Mul", 1), ("Add", 0), ("Add", 1), ("Sub", 0), ("Sub", 1), ("Div", 0)]
    )
    @pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 6, 1, 1)])
    def test_after_conv(self, op_type, first, shape):
        operands = ["h", "k"] if first == 0 else ["k", "h"]
        k = (weights(*shape) if shape else np.float32(0.7)) + np.float32(2)
        proto = model(
            [
                node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
                node(op_type, operands, ["n"]),
                node("Relu", ["n"], ["y"]),
            ],
            ["x:f[N,4,8,8]"],
            ["y:f"],
            {"w": weights(6, 4, 3, 3), "k": np.float32(k)},
        )
        assert kinds(normalized(proto, image(2, 4, 8, 8))) == ["Conv", "Relu"]

    def test_several_in_a_row(self):
        proto = model(
            [
                node("Gemm", ["x", "w"], ["h"]),
                node("Mul", ["h", "k"], ["m"]),
                node("Add", ["m", "a"], ["n"]),
                node("Sub", ["a", "n"], ["y"]),
            ],
            ["x:f[N,5]"],
            ["y:f"],
            {"w": weights(5, 6), "k": weights(6), "a": weights(6)},
        )
        assert kinds(normalized(proto, image(3, 5))) == ["Gemm"]

    def test_a_matmul_takes_the_factor_and_leaves_the_bias(self):
        proto = model(
            [node("MatMul", ["x", "w"], ["h"]), node("Mul", ["h", "k"], ["m"]), node("Add", ["m", "a"], ["y"])],
            ["x:f[N,L,5]"],
            ["y:f"],
            {"w": weights(5, 6), "k": weights(6), "a": weights(6)},
        )
        assert kinds(normalized(proto, image(2, 3, 5))) == ["MatMul", "Add"]

    @pytest.mark.parametrize("shape", [(8, 8), (1, 1, 8, 8), (2, 6, 1, 1), (1, 1, 1, 6, 1)])
    def test_not_per_channel(self, shape):
        proto = (
            model(
                [node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]), node("Add", ["h", "k"], ["y"])],
                ["x:f[2,4,8,8]"],
                ["y:f"],
                {"w": weights(6, 4, 3, 3), "k": weights(*shape)},
            )
            if shape != (1, 1, 1, 6, 1)
            else model(
                [node("Conv", ["x", "w"], ["h"]), node("Add", ["h", "k"], ["y"])],
                ["x:f[2,4,3,3]"],
                ["y:f"],
                {"w": weights(6, 4, 3, 3), "k": weights(*shape)},
            )
        )
        feed = image(2, 4, 3, 3) if len(shape) == 5 else image(2, 4, 8, 8)
        hub = normalized(proto, feed)
        assert kinds(hub) == ["Conv", "Add"]
        assert "not one number a channel" in declined(hub, "fold_affine")[0]

    def test_division_by_the_output(self):
        proto = model(
            [node("Conv", ["x", "w"], ["h"]), node("Div", ["k", "h"], ["y"])],
            ["x:f[2,4,8,8]"],
            ["y:f"],
            {"w": weights(6, 4, 3, 3), "k": np.float32(1)},
        )
        assert kinds(normalized(proto, image(2, 4, 8, 8))) == ["Conv", "Div"]

    def test_overflow_is_declined(self):
        proto = model(
            [node("Conv", ["x", "w"], ["h"]), node("Mul", ["h", "k"], ["y"])],
            ["x:f[2,4,8,8]"],
            ["y:f"],
            {"w": weights(6, 4, 3, 3) * np.float32(1e30), "k": np.float32(1e30)},
        )
        hub = load(proto)
        assert kinds(hub) == ["Conv", "Mul"] and "not finite" in declined(hub, "fold_affine")[0]


class TestMatMulToGemm:
    @pytest.mark.parametrize("bias", [(6,), (1, 6)])
    @pytest.mark.parametrize("operands", [["h", "b"], ["b", "h"]])
    def test_matrices(self, bias, operands):
        proto = model(
            [node("MatMul", ["x", "w"], ["h"]), node("Add", operands, ["y"])],
            ["x:f[N,5]"],
            ["y:f"],
            {"w": weights(5, 6), "b": weights(*bias)},
        )
        hub = normalized(proto, image(3, 5))
        assert kinds(hub) == ["Gemm"] and hub.nodes()[0].outputs[0].name == "y"

    @pytest.mark.parametrize(
        ("rank", "bias"), [("2,N,5", (6,)), ("N,5", (1,)), ("3,5", (3, 6)), ("3,5", (3, 1)), ("3,5", (1, 1, 6))]
    )
    def test_other_ranks_and_biases_stay(self, rank, bias):
        proto = model(
            [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])],
            [f"x:f[{rank}]"],
            ["y:f"],
            {"w": weights(5, 6), "b": weights(*bias)},
        )
        assert kinds(normalized(proto, image(2, 3, 5) if len(rank) > 3 else image(3, 5))) == ["MatMul", "Add"]


class TestHardSigmoid:
    def test_becomes_a_clip(self):
        proto = model(
            [node("Conv", ["x", "w"], ["h"]), node("HardSigmoid", ["h"], ["y"], alpha=0.25, beta=0.4)],
            ["x:f[N,4,1,1]"],
            ["y:f"],
            {"w": weights(6, 4, 1, 1)},
        )
        hub = normalized(proto, image(5, 4, 1, 1))
        assert kinds(hub) == ["Conv", "Clip"]
        assert [float(hub.constant(v)) for v in hub.nodes()[1].inputs[1:]] == [0.0, 1.0]

    def test_not_if_the_convolution_is_read_elsewhere(self):
        proto = model(
            [node("Conv", ["x", "w"], ["h"]), node("HardSigmoid", ["h"], ["g"]), node("Mul", ["g", "h"], ["y"])],
            ["x:f[N,4,1,1]"],
            ["y:f"],
            {"w": weights(6, 4, 1, 1)},
        )
        assert kinds(normalized(proto, image(5, 4, 1, 1))) == ["Conv", "HardSigmoid", "Mul"]


class TestPad:
    def pad(
        self,
        consumer: onnx.NodeProto,
        pads: list[int],
        constants: dict,
        *,
        before: str | None = None,
        value: float | None = None,
        mode: str = "constant",
    ):
        source = "x" if before is None else "r"
        inputs = [source, "p", *(["fill"] if value is not None else [])]
        fills = {} if value is None else {"fill": np.float32(value)}
        nodes = [*([node(before, ["x"], ["r"])] if before else []), node("Pad", inputs, ["h"], mode=mode), consumer]
        return normalized(
            model(nodes, ["x:f[2,4,9,9]"], ["y:f"], {"p": np.array(pads), **fills, **constants}), image(2, 4, 9, 9)
        )

    PADS = (0, 0, 1, 2, 0, 0, 0, 1)

    def test_conv(self):
        hub = self.pad(node("Conv", ["h", "w"], ["y"], pads=[1, 0, 0, 1]), self.PADS, {"w": weights(6, 4, 3, 3)})
        assert kinds(hub) == ["Conv"] and hub.nodes()[0].attributes["pads"].as_ints() == (2, 2, 0, 2)

    @pytest.mark.parametrize(
        ("pads", "options", "reason"),
        [
            (PADS, {"value": 1.0}, "pads with 1.0"),
            (PADS, {"mode": "reflect"}, "reflect"),
            ([0, 0, -1, 0, 0, 0, 0, 0], {}, "crops"),
            ([0, 1, 0, 0, 0, 0, 0, 0], {}, "channel axis"),
        ],
    )
    def test_conv_declined(self, pads, options, reason):
        channels = 4 + pads[1]
        hub = self.pad(node("Conv", ["h", "w"], ["y"]), pads, {"w": weights(6, channels, 3, 3)}, **options)
        assert kinds(hub) == ["Pad", "Conv"] and reason in declined(hub, "fold_pad")[0]

    @pytest.mark.parametrize("own", [[0, 0, 0, 0], [1, 1, 1, 1]])
    def test_average_pool_counts_what_the_pad_added(self, own):
        pool = node("AveragePool", ["h"], ["y"], kernel_shape=[4, 4], strides=[2, 2], pads=own, count_include_pad=1)
        hub = self.pad(pool, self.PADS, {})
        assert kinds(hub) == ["AveragePool"]

    def test_average_pool_that_does_not_count_its_own(self):
        hub = self.pad(node("AveragePool", ["h"], ["y"], kernel_shape=[4, 4], pads=[1, 1, 1, 1]), self.PADS, {})
        assert kinds(hub) == ["Pad", "AveragePool"]

    def test_average_pool_without_padding_of_its_own(self):
        hub = self.pad(node("AveragePool", ["h"], ["y"], kernel_shape=[3, 3], strides=[2, 2]), self.PADS, {})
        assert kinds(hub) == ["AveragePool"]

    @pytest.mark.parametrize(
        ("before", "expected"), [("Relu", ["Relu", "MaxPool"]), ("Tanh", ["Tanh", "Pad", "MaxPool"])]
    )
    def test_max_pool_needs_a_non_negative_input(self, before, expected):
        pool = node("MaxPool", ["h"], ["y"], kernel_shape=[3, 3], strides=[2, 2])
        assert kinds(self.pad(pool, self.PADS, {}, before=before)) == expected

    def test_max_pool_after_a_clip_below_zero(self):
        constants = {"p": np.array(self.PADS), "lo": np.float32(-1), "hi": np.float32(1)}
        nodes = [
            node("Clip", ["x", "lo", "hi"], ["r"]),
            node("Pad", ["r", "p"], ["h"]),
            node("MaxPool", ["h"], ["y"], kernel_shape=[3, 3]),
        ]
        feed = {"x": -np.abs(weights(2, 4, 9, 9))}
        assert kinds(normalized(model(nodes, ["x:f[2,4,9,9]"], ["y:f"], constants), feed)) == ["Clip", "Pad", "MaxPool"]

    def test_max_pool_with_minus_infinity(self):
        pool = node("MaxPool", ["h"], ["y"], kernel_shape=[3, 3], strides=[2, 2])
        assert kinds(self.pad(pool, self.PADS, {}, value=-np.inf)) == ["MaxPool"]

    def test_padding_as_wide_as_the_kernel(self):
        pool = node("MaxPool", ["h"], ["y"], kernel_shape=[2, 2])
        hub = self.pad(pool, [0, 0, 2, 2, 0, 0, 2, 2], {}, before="Relu")
        assert kinds(hub) == ["Relu", "Pad", "MaxPool"] and "smaller than the kernel" in declined(hub, "fold_pad")[0]


class TestNoops:
    @pytest.mark.parametrize(
        "noop",
        [
            node("Identity", ["a"], ["b"]),
            node("Dropout", ["a"], ["b"]),
            node("Dropout", ["a", "half"], ["b"]),
            node("Dropout", ["a", "half", "false"], ["b"]),
            node("Cast", ["a"], ["b"], to=1),
            node("Reshape", ["a", "same"], ["b"]),
            node("Transpose", ["a"], ["b"], perm=[0, 1, 2]),
            node("Concat", ["a"], ["b"], axis=0),
            node("Slice", ["a", "zero", "big", "one"], ["b"]),
            node("Pad", ["a", "nopad"], ["b"]),
            node("Add", ["a", "fzero"], ["b"]),
            node("Mul", ["fone", "a"], ["b"]),
            node("Div", ["a", "fone"], ["b"]),
            node("Pow", ["a", "fone"], ["b"]),
            node("Expand", ["a", "same"], ["b"]),
            node("Tile", ["a", "ones"], ["b"]),
            node("Clip", ["a"], ["b"]),
            node("Max", ["a"], ["b"]),
        ],
        ids=lambda n: f"{n.op_type}{len(n.input)}",
    )
    @pytest.mark.parametrize("last", [False, True])
    def test_removed(self, noop, last):
        nodes = [node("Neg", ["x"], ["a"]), noop] + ([] if last else [node("Relu", ["b"], ["y"])])
        constants = {
            "half": np.float32(0.5),
            "false": np.array(False),
            "same": np.array([2, 3, 4]),
            "zero": np.array([0]),
            "big": np.array([9]),
            "one": np.array([1]),
            "nopad": np.zeros(6, np.int64),
            "fzero": np.float32([0]),
            "fone": np.float32(1),
            "ones": np.ones(3, np.int64),
        }
        hub = normalized(model(nodes, ["x:f[2,3,4]"], ["b:f" if last else "y:f"], constants), image(2, 3, 4))
        assert kinds(hub) == (["Neg"] if last else ["Neg", "Relu"])
        assert len(hub.graph.initializers) == 0

    @pytest.mark.parametrize(
        "op",
        [
            node("Add", ["a", "wide"], ["b"]),
            node("Mul", ["a", "row"], ["b"]),
            node("Sub", ["zero", "a"], ["b"]),
            node("Slice", ["a", "minus", "start", "axis", "minus"], ["b"]),
            node("Reshape", ["a", "other"], ["b"]),
            node("Cast", ["a"], ["b"], to=11),
        ],
        ids=lambda n: n.op_type,
    )
    def test_kept(self, op):
        constants = {
            "wide": np.zeros((1, 1, 1, 1), np.float32),
            "row": np.ones(4, np.float32),
            "zero": np.float32(0),
            "minus": np.array([-1]),
            "start": np.array([-9]),
            "axis": np.array([0]),
            "other": np.array([3, 2, 4]),
        }
        output = helper.make_tensor_value_info("y", 11 if op.op_type == "Cast" else 1, None)
        proto = model([node("Neg", ["x"], ["a"]), op, node("Abs", ["b"], ["y"])], ["x:f[2,3,4]"], [output], constants)
        assert kinds(normalized(proto, image(2, 3, 4))) == ["Neg", op.op_type, "Abs"]

    def test_reshape_with_an_unknown_size(self):
        for shape, expected in (([-1, 3, 4], []), ([0, 3, 4], []), ([0, -1, 4], []), ([-1, 4, 3], ["Reshape"])):
            proto = model(
                [node("Neg", ["x"], ["a"]), node("Reshape", ["a", "s"], ["b"]), node("Relu", ["b"], ["y"])],
                ["x:f[N,3,4]"],
                ["y:f"],
                {"s": np.array(shape)},
            )
            assert kinds(normalized(proto, image(2, 3, 4))) == ["Neg", *expected, "Relu"]

    def test_reshape_to_its_own_shape(self):
        nodes = [
            node("Neg", ["x"], ["a"]),
            node("Shape", ["a"], ["s"]),
            node("Reshape", ["a", "s"], ["b"]),
            node("Relu", ["b"], ["y"]),
        ]
        assert kinds(normalized(model(nodes, ["x:f[N,M]"], ["y:f"]), image(2, 3))) == ["Neg", "Relu"]

    def test_an_input_that_is_an_output_keeps_its_identity(self):
        hub = normalized(model([node("Identity", ["x"], ["y"])], ["x:f[2]"], ["y:f"]), image(2))
        assert kinds(hub) == ["Identity"] and "graph output" in declined(hub, "drop_noops")[0]

    def test_two_outputs_of_one_value_keep_theirs(self):
        hub = normalized(
            model([node("Neg", ["x"], ["a"]), node("Identity", ["a"], ["y"])], ["x:f[2]"], ["a:f", "y:f"]), image(2)
        )
        assert kinds(hub) == ["Neg", "Identity"]

    def test_dropout_with_a_used_mask(self):
        proto = model(
            [node("Dropout", ["x"], ["a", "mask"]), node("Relu", ["a"], ["y"])], ["x:f[2]"], ["y:f", "mask:b"]
        )
        assert kinds(normalized(proto, image(2))) == ["Dropout", "Relu"]


class TestMoves:
    def transposes(self, first: list[int], second: list[int], also: bool = False) -> list[str]:
        nodes = [
            node("Neg", ["x"], ["n"]),
            node("Transpose", ["n"], ["a"], perm=first),
            node("Transpose", ["a"], ["b"], perm=second),
            node("Relu", ["b"], ["y"]),
        ]
        proto = model(nodes, ["x:f[2,3,4]"], ["y:f", *(["a:f"] if also else [])])
        return kinds(normalized(proto, image(2, 3, 4)))

    def test_transposes_that_cancel(self):
        assert self.transposes([1, 2, 0], [2, 0, 1]) == ["Neg", "Relu"]

    def test_transposes_that_combine(self):
        assert self.transposes([1, 2, 0], [1, 2, 0]) == ["Neg", "Transpose", "Relu"]
        assert self.transposes([1, 0, 2], [1, 2, 0]) == ["Neg", "Transpose", "Relu"]  # the order matters

    def test_a_transpose_that_is_wanted_too(self):
        assert self.transposes([1, 2, 0], [2, 0, 1], also=True) == ["Neg", "Transpose", "Relu"]

    def test_reshapes(self):
        nodes = [
            node("Flatten", ["x"], ["a"]),
            node("Unsqueeze", ["a", "one"], ["b"]),
            node("Reshape", ["b", "s"], ["c"]),
            node("Relu", ["c"], ["y"]),
        ]
        hub = normalized(
            model(nodes, ["x:f[N,3,4]"], ["y:f"], {"one": np.array([1]), "s": np.array([-1, 4, 3])}), image(2, 3, 4)
        )
        assert kinds(hub) == ["Reshape", "Relu"]

    def test_a_reshape_that_copies_sizes_stays(self):
        nodes = [node("Flatten", ["x"], ["a"]), node("Reshape", ["a", "s"], ["c"]), node("Relu", ["c"], ["y"])]
        hub = normalized(model(nodes, ["x:f[N,3,4]"], ["y:f"], {"s": np.array([0, 2, 6])}), image(2, 3, 4))
        assert kinds(hub) == ["Flatten", "Reshape", "Relu"] and declined(hub, "merge_reshapes")

    def test_transposes_before_gemm(self):
        nodes = [node("Transpose", ["x"], ["a"], perm=[1, 0]), node("Gemm", ["a", "b"], ["y"], transB=1)]
        nodes.insert(1, node("Transpose", ["z"], ["b"]))
        hub = normalized(model(nodes, ["x:f[4,3]", "z:f[4,5]"], ["y:f"]), {"x": weights(4, 3), "z": weights(4, 5)})
        assert kinds(hub) == ["Gemm"]
        assert {k: v.as_int() for k, v in hub.nodes()[0].attributes.items()} == {"transA": 1, "transB": 0}


class TestConstants:
    def test_constant_nodes(self):
        tensor = helper.make_tensor("t", 1, [2], [1.0, 2.0])
        nodes = [
            node("Constant", [], ["a"], value=tensor),
            node("Constant", [], ["b"], value_float=3.0),
            node("Constant", [], ["c"], value_floats=[4.0, 5.0]),
            node("Sum", ["x", "a", "b", "c"], ["y"]),
        ]
        hub = normalized(model(nodes, ["x:f[2]"], ["y:f"]), image(2))
        assert kinds(hub) == ["Sum"] and sorted(hub.graph.initializers) == ["a", "b", "c"]

    def test_a_constant_output_stays(self):
        nodes = [node("Constant", [], ["k"], value_float=3.0), node("Relu", ["x"], ["y"])]
        hub = normalized(model(nodes, ["x:f[2]"], ["y:f", "k:f"]), image(2))
        assert sorted(kinds(hub)) == ["Constant", "Relu"]

    def test_chains_are_folded_at_once(self):
        nodes = [
            node("Transpose", ["w"], ["t"], perm=[1, 0]),
            node("Mul", ["t", "k"], ["m"]),
            node("Split", ["m"], ["p", "q"], axis=1),
            node("MatMul", ["x", "p"], ["u"]),
            node("MatMul", ["x", "q"], ["v"]),
            node("Add", ["u", "v"], ["y"]),
        ]
        hub = normalized(model(nodes, ["x:f[N,5]"], ["y:f"], {"w": weights(6, 5), "k": np.float32(2)}), image(3, 5))
        assert kinds(hub) == ["MatMul", "MatMul", "Add"] and sorted(hub.graph.initializers) == ["p", "q"]

    @pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
    def test_growth_is_bounded(self, op):
        """600 x 600 float32 are 1.4 MB; 200 x 200 are not."""
        for side, folded in ((600, False), (200, True)):
            inputs = {"ConstantOfShape": ["s"], "Expand": ["k", "s"], "Tile": ["k", "s"]}[op]
            nodes = [node(op, inputs, ["c"]), node("Add", ["x", "c"], ["y"])]
            constants = {
                "s": np.array([side, side]),
                **({"k": np.ones((1, 1), np.float32)} if op != "ConstantOfShape" else {}),
            }
            hub = normalized(model(nodes, ["x:f[1,1]"], ["y:f"], constants), image(1, 1))
            assert kinds(hub) == (["Add"] if folded else [op, "Add"])
            if not folded:
                assert "would grow the model" in declined(hub, "fold_constants")[0]

    def test_growth_of_all_together_is_bounded(self, monkeypatch):
        """160 kB each, of a few bytes: the third one is too much."""
        monkeypatch.setattr("fewbit.graph.rules.fold_constants._MOST_IN_ALL", 400_000)
        nodes = [node("ConstantOfShape", ["s"], [f"c{i}"]) for i in range(3)]
        nodes[1].attribute.append(helper.make_attribute("value", helper.make_tensor("v", 1, [1], [1.0])))
        nodes[2].attribute.append(helper.make_attribute("value", helper.make_tensor("v", 1, [1], [2.0])))
        nodes += [node("Add", ["x", "c0"], ["a"]), node("Add", ["a", "c1"], ["b"]), node("Add", ["b", "c2"], ["y"])]
        hub = normalized(model(nodes, ["x:f[1,1]"], ["y:f"], {"s": np.array([200, 200])}), image(1, 1))
        assert kinds(hub).count("ConstantOfShape") == 1
        assert any("160000 bytes and those of nodes before it" in reason for reason in declined(hub, "fold_constants"))

    def test_random_numbers_are_not_folded(self):
        nodes = [node("RandomNormalLike", ["k"], ["r"]), node("Add", ["x", "r"], ["y"])]
        assert kinds(normalized(model(nodes, ["x:f[3]"], ["y:f"], {"k": weights(3)}))) == ["RandomNormalLike", "Add"]

    def test_stored_halves_are_widened(self):
        nodes = [node("Cast", ["h"], ["w"], to=1), node("MatMul", ["x", "w"], ["y"])]
        hub = normalized(
            model(nodes, ["x:f[1,1000]"], ["y:f"], {"h": weights(1000, 700).astype(np.float16)}), image(1, 1000)
        )
        assert kinds(hub) == ["MatMul"] and hub.constant(hub.value("w")).dtype == np.float32

    @pytest.mark.parametrize("rows", [20, 5000])
    def test_tied_weights_stay_tied(self, rows):
        nodes = [
            node("Gather", ["table", "ids"], ["e"]),
            node("Transpose", ["table"], ["t"], perm=[1, 0]),
            node("MatMul", ["e", "t"], ["y"]),
        ]
        hub = normalized(model(nodes, ["ids:i[N]"], ["y:f"], {"table": weights(rows, 64)}), {"ids": np.array([3, 7])})
        assert kinds(hub) == ["Gather", "Transpose", "MatMul"] and list(hub.graph.initializers) == ["table"]
        assert "weight of another layer" in declined(hub, "fold_constants")[0]

    def test_a_computed_weight_stays_tied_too(self):
        nodes = [
            node("Mul", ["w", "k"], ["scaled"]),
            node("MatMul", ["x", "scaled"], ["h"]),
            node("Transpose", ["scaled"], ["t"], perm=[1, 0]),
            node("MatMul", ["h", "t"], ["y"]),
        ]
        constants = {"w": weights(6, 5), "k": np.float32(2)}
        hub = normalized(model(nodes, ["x:f[N,6]"], ["y:f"], constants), image(3, 6))
        assert kinds(hub) == ["MatMul", "Transpose", "MatMul"] and list(hub.graph.initializers) == ["scaled"]

    def test_layers_that_read_the_same_form_share_it(self):
        nodes = [
            node("Transpose", ["w"], ["t"], perm=[1, 0]),
            node("MatMul", ["x", "t"], ["u"]),
            node("Transpose", ["w"], ["s"], perm=[1, 0]),
            node("MatMul", ["u", "s"], ["y"]),
        ]
        hub = normalized(model(nodes, ["x:f[2,3,6]"], ["y:f"], {"w": weights(6, 6)}), image(2, 3, 6))
        assert kinds(hub) == ["MatMul", "MatMul"] and list(hub.graph.initializers) == ["t"]

    def test_unused_things_go(self):
        nodes = [node("Exp", ["x"], ["e"]), node("Neg", ["e"], ["unused"]), node("Relu", ["x"], ["y"])]
        hub = normalized(model(nodes, ["x:f[2]"], ["y:f"], {"left": weights(2)}), image(2))
        assert kinds(hub) == ["Relu"] and len(hub.graph.initializers) == 0

    def test_a_node_that_cannot_be_run_spoils_nothing(self):
        nodes = [
            node("Add", ["a", "b"], ["c"]),
            node("Mul", ["c", "c"], ["d"]),
            node("Squeeze", ["a", "zero"], ["bad"]),
            node("Sum", ["x", "d"], ["y"]),
            node("Neg", ["bad"], ["z"]),
        ]
        hub = load(
            model(
                nodes,
                ["x:f[3]"],
                ["y:f", "z:f"],
                {"a": np.float32([1, 2, 3]), "b": np.ones((1, 1), np.float32), "zero": np.array([0])},
            )
        )
        assert sorted(kinds(hub)) == ["Neg", "Squeeze", "Sum"] and hub.constant(hub.value("d")).tolist() == [[4, 9, 16]]
        assert any("cannot be run" in reason for reason in declined(hub, "fold_constants"))

    @pytest.mark.parametrize("flag", [True, False])
    def test_a_constant_condition(self, flag):
        """As exporters write a squeeze: if the first axis has size 1."""
        then = graph(
            [node("Constant", [], ["flat"], value_ints=[-1]), node("Reshape", ["h", "flat"], ["t"])], [], ["t:f"]
        )
        other = graph([node("Add", ["h", "k"], ["m"]), node("Mul", ["m", "x"], ["e"])], [], ["e:f"], {"k": weights(4)})
        nodes = [
            node("Relu", ["x"], ["h"]),
            node("Shape", ["h"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Equal", ["n", "one"], ["c"]),
            node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        ]
        size = 1 if flag else 2
        hub = normalized(
            model(nodes, [f"x:f[{size},4]"], ["y:f"], {"zero": np.array(0), "one": np.array(1)}), image(size, 4)
        )
        assert kinds(hub) == (["Relu", "Reshape"] if flag else ["Relu", "Add", "Mul"])

    def test_nothing_to_fold_needs_no_runtime(self):
        import subprocess
        import sys

        code = (
            "import sys\nfrom onnx import helper as h\nfrom fewbit.graph.load import load\n"
            "g = h.make_graph([h.make_node('Relu', ['x'], ['y'])], 'g', [h.make_tensor_value_info('x', 1, [2])],"
            " [h.make_tensor_value_info('y', 1, [2])])\n"
            "load(h.make_model(g, opset_imports=[h.make_opsetid('', 17)], ir_version=8))\n"
            "print('onnxruntime' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"


class TestShapes:
    def test_static_shapes_are_computed(self):
        nodes = [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "two"], ["w"]),
            node("Unsqueeze", ["w", "zero"], ["u"]),
            node("Concat", ["minus", "u"], ["k"], axis=0),
            node("Reshape", ["x", "k"], ["r"]),
            node("Relu", ["r"], ["y"]),
        ]
        constants = {"two": np.array(2), "zero": np.array([0]), "minus": np.array([-1])}
        hub = normalized(model(nodes, ["x:f[2,3,4]"], ["y:f"], constants), image(2, 3, 4))
        assert kinds(hub) == ["Reshape", "Relu"] and hub.constant(hub.nodes()[0].inputs[1]).tolist() == [-1, 4]

    def test_a_known_size_of_a_dynamic_shape(self):
        nodes = [
            node("Shape", ["x"], ["s"]),
            node("Slice", ["s", "one", "three"], ["w"]),
            node("Concat", ["minus", "w"], ["k"], axis=0),
            node("Expand", ["x", "k"], ["e"]),
            node("Relu", ["e"], ["y"]),
        ]
        constants = {"one": np.array([1]), "three": np.array([3]), "minus": np.array([1])}
        hub = normalized(model(nodes, ["x:f[N,3,4]"], ["y:f"], constants), image(2, 3, 4), image(1, 3, 4))
        assert kinds(hub) == ["Expand", "Relu"] and hub.constant(hub.nodes()[0].inputs[1]).tolist() == [1, 3, 4]

    def test_an_unknown_size_stays_computed(self):
        nodes = [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("ConstantOfShape", ["n"], ["c"]),
        ]
        hub = normalized(
            model([*nodes, node("Sum", ["c"], ["y"])], ["x:f[N,3]"], ["y:f"], {"zero": np.array([0])}), image(5, 3)
        )
        assert kinds(hub) == ["Shape", "Gather", "ConstantOfShape"]

    def test_shape_with_bounds(self):
        nodes = [
            node("Shape", ["x"], ["s"], start=1, end=-1),
            node("Reshape", ["z", "s"], ["r"]),
            node("Relu", ["r"], ["y"]),
        ]
        proto = model(nodes, ["x:f[N,3,4,M]", "z:f[12]"], ["y:f"])
        hub = normalized(proto, {"x": weights(2, 3, 4, 5), "z": weights(12)})
        assert kinds(hub) == ["Reshape", "Relu"]


class TestReciprocal:
    def test_scalar_and_vector(self):
        for k in (np.float32(6), weights(4) + 3):
            hub = normalized(
                model(
                    [node("Relu", ["x"], ["a"]), node("Div", ["a", "k"], ["y"])],
                    ["x:f[2,4]"],
                    ["y:f"],
                    {"k": np.float32(k)},
                ),
                image(2, 4),
            )
            assert kinds(hub) == ["Relu", "Mul"]

    @pytest.mark.parametrize("k", [0.0, 1e-39, np.inf])
    def test_no_finite_reciprocal(self, k):
        hub = load(model([node("Div", ["x", "k"], ["y"])], ["x:f[2,4]"], ["y:f"], {"k": np.float32(k)}))
        assert kinds(hub) == ["Div"]

    def test_integers_divide(self):
        hub = normalized(
            model([node("Div", ["x", "k"], ["y"])], ["x:i[3]"], ["y:i"], {"k": np.array(2)}),
            {"x": np.array([5, 7, -3])},
        )
        assert kinds(hub) == ["Div"]

    def test_gelu_keeps_the_form_that_runtimes_know(self):
        hub = normalized(
            model(
                [node("Div", ["x", "k"], ["d"]), node("Erf", ["d"], ["y"])],
                ["x:f[3]"],
                ["y:f"],
                {"k": np.float32(1.414)},
            ),
            image(3),
        )
        assert kinds(hub) == ["Div", "Erf"]


class TestDenormals:
    def test_flushed_and_counted(self):
        w = weights(2, 4)
        # By their bits: another test's runtime may have told this thread to round denormal numbers to zero.
        w.view(np.uint32)[0, :3] = 0x000ADE6A, 0x80000001, 0  # 1e-39, -1.4e-45, 0
        w.view(np.uint32)[1, 0] = 0x00800000  # 1.18e-38, the smallest normal number
        hub = normalized(model([node("MatMul", ["x", "w"], ["y"])], ["x:f[N,2]"], ["y:f"], {"w": w}), image(3, 2))
        expected = w.copy()
        expected[0, :2] = 0
        np.testing.assert_array_equal(hub.constant(hub.value("w")), expected)
        (outcome,) = [o for o in hub.log if o.rule == "flush_denormals"]
        assert outcome.node == "w" and outcome.reason.startswith("2 of 8 denormal")


class TestOldModels:
    def test_initializers_listed_as_inputs(self):
        proto = model(
            [node("Add", ["x", "k"], ["y"])], ["x:f[2]", "k:f[2]"], ["y:f"], {"k": weights(2)}, ir_version=3, opset=9
        )
        hub = normalized(proto, image(2))
        assert [i.name for i in hub.inputs] == ["x"] == [v.name for v in hub.graph.inputs]
        assert hub.model.ir_version >= 4

    @pytest.mark.parametrize("opset", [7, 9, 10, 11, 12])
    def test_old_opsets(self, opset):
        clip = node("Clip", ["c"], ["r"], min=0.0, max=6.0) if opset < 11 else node("Clip", ["c", "lo", "hi"], ["r"])
        constants = {"w": weights(6, 3, 3, 3), **bn_constants(6), "g": weights(5, 6)}
        if opset >= 11:
            constants |= {"lo": np.float32(0), "hi": np.float32(6)}
        nodes = [
            node("Conv", ["x", "w"], ["h"]),
            bn("h", "c"),
            clip,
            node("GlobalAveragePool", ["r"], ["p"]),
            node("Squeeze", ["p"], ["q"], axes=[2, 3]),
            node("Dropout", ["q"], ["d"]),
            node("Gemm", ["d", "g", "z"], ["l"], transB=1),
            node("Softmax", ["l"], ["y"], axis=1),
        ]
        constants["z"] = weights(5)
        hub = normalized(model(nodes, ["x:f[N,3,8,8]"], ["y:f"], constants, opset=opset), image(2, 3, 8, 8))
        assert hub.opset == 17
        assert kinds(hub) == ["Conv", "Clip", "GlobalAveragePool", "Squeeze", "Gemm", "Softmax"]

    def test_newer_opsets_are_left_alone(self):
        for opset in (13, 16, 21):
            assert (
                normalized(model([node("Relu", ["x"], ["y"])], ["x:f[2]"], ["y:f"], opset=opset), image(2)).opset
                == opset
            )

    def test_what_cannot_be_converted_is_said(self):
        proto = model(
            [node("BatchNormalization", ["x", *"sbmv"], ["y"], spatial=0)],
            ["x:f[2,3]"],
            ["y:f"],
            bn_constants(3),
            opset=8,
        )
        wanted = r"opset 8, older than 13, and cannot be converted \(Attribute spatial must have value 1\); export it"
        with pytest.raises(ModelError, match=wanted):
            load(proto)

    def test_a_subgraph_that_captures_a_converted_value(self):
        branches = [
            graph([node("Unsqueeze", ["s"], ["u"], axes=[0]), node("Squeeze", ["u"], ["t"], axes=[0])], [], ["t:f"]),
            graph([node("Clip", ["s"], ["e"], min=0.0, max=0.1)], [], ["e:f"]),
        ]
        nodes = [
            node("Softmax", ["x"], ["s"], axis=1),
            node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ]
        proto = model(nodes, ["x:f[2,3,4]", "c:b[]"], ["y:f"], opset=9)
        hub = normalized(proto, *({**image(2, 3, 4), "c": np.array(flag)} for flag in (True, False)))
        assert hub.opset == 17
