"""Operators that ONNX's node tests leave out or touch lightly, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from fewbit.graph.load import load
from tests.models import Builder

torch = pytest.importorskip("torch")

from fewbit.torchgraph.dtypes import to_array, to_tensor  # noqa: E402
from fewbit.torchgraph.module import to_torch  # noqa: E402

RTOL, ATOL = 1e-5, 1e-5

FLOATS = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return FLOATS.standard_normal(shape).astype(np.float32)


def both(
    op: str,
    inputs: dict[str, np.ndarray],
    outputs: int = 1,
    constants: dict[int, np.ndarray] | None = None,
    opset: int = 17,
    **attributes: Any,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(torch's, ONNX Runtime's) outputs of one node; `constants` are its inputs at those places, "" a missing one."""
    b = Builder()
    names: list[str] = []
    fed = iter(inputs)
    for index in range(len(inputs) + len(constants or {})):
        if constants and index in constants:
            value = constants[index]
            names.append("" if value is None else b.constant(value))
        else:
            names.append(next(fed))
    made = [f"y{i}" for i in range(outputs)]
    domain = attributes.pop("domain", "")
    b.nodes.append(onnx.helper.make_node(op, names, made, "node", domain=domain, **attributes))
    kinds = {n: onnx.helper.np_dtype_to_tensor_dtype(v.dtype) for n, v in inputs.items()}
    model = b.proto({n: v.shape for n, v in inputs.items()}, made, opset, kinds)
    for output in model.graph.output:
        output.type.Clear()
    model.ir_version = 10
    if domain:
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options)
    expected = session.run(None, inputs)
    with torch.no_grad():
        got = to_torch(load(model, normalize=False))(**{n: to_tensor(v.copy()) for n, v in inputs.items()})
    return list(zip(map(to_array, got), expected, strict=True))


def check(*args: Any, rtol: float = RTOL, atol: float = ATOL, **options: Any) -> None:
    for got, expected in both(*args, **options):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


# convolutions and pooling: ONNX's geometry in torch's


@settings(max_examples=60, deadline=None)
@given(
    rank=st.integers(1, 2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    auto_pad=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    group=st.sampled_from([1, 2]),
)
def test_conv(rank: int, kernel: int, stride: int, dilation: int, pads: list[int], auto_pad: str, group: int) -> None:
    attributes: dict[str, Any] = {"strides": [stride] * rank, "group": group, "auto_pad": auto_pad}
    if auto_pad == "NOTSET":
        attributes |= {"pads": pads[: 2 * rank], "dilations": [dilation] * rank}  # ONNX Runtime: no SAME with dilations
    w = normal(4, 4 // group, *[kernel] * rank)
    check("Conv", {"x": normal(2, 4, *[7, 8][:rank])}, constants={1: w, 2: normal(4)}, **attributes)


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    extra=st.integers(0, 1),
    group=st.sampled_from([1, 2]),
)
def test_conv_transpose(kernel: int, stride: int, dilation: int, pads: list[int], extra: int, group: int) -> None:
    extra = min(extra, stride - 1)  # ONNX Runtime declines more
    pads = [0] * 4 if kernel == 1 else pads  # nothing would be left
    check(
        "ConvTranspose",
        {"x": normal(2, 4, 5, 4)},
        constants={1: normal(4, 2, kernel, kernel), 2: normal(2 * group)},
        strides=[stride, stride],
        dilations=[dilation, dilation],
        pads=pads,
        output_padding=[extra, extra],
        group=group,
    )


def test_conv_transpose_output_shape_and_same() -> None:
    x, w = {"x": normal(1, 2, 5, 5)}, {1: normal(2, 3, 3, 3)}
    check("ConvTranspose", x, constants=w, strides=[2, 2], output_shape=[10, 11])
    check("ConvTranspose", x, constants=w, strides=[2, 2], auto_pad="SAME_UPPER")
    check("ConvTranspose", x, constants=w, strides=[2, 2], auto_pad="SAME_LOWER")


@settings(max_examples=80, deadline=None)
@given(
    op=st.sampled_from(["MaxPool", "AveragePool", "LpPool"]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    pads=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    ceil=st.booleans(),
    include=st.booleans(),
)
def test_pool(op: str, kernel: int, stride: int, pads: list[int], ceil: bool, include: bool) -> None:
    attributes: dict[str, Any] = {"kernel_shape": [kernel, kernel], "strides": [stride, stride]}
    attributes["pads"] = [min(p, kernel - 1) for p in pads]
    attributes["ceil_mode"] = int(ceil)
    if op == "AveragePool":
        attributes["count_include_pad"] = int(include)
    # before opset 19 ONNX Runtime counts what ceil_mode adds
    check(op, {"x": normal(1, 2, 7, 6)}, opset=19, **attributes)


def test_max_pool_indices() -> None:
    for order in (0, 1):
        check(
            "MaxPool",
            {"x": normal(2, 3, 6, 7)},
            outputs=2,
            kernel_shape=[3, 2],
            strides=[2, 1],
            pads=[1, 0, 0, 1],
            storage_order=order,
        )


def test_max_pool_of_integers() -> None:
    check(
        "MaxPool", {"x": np.arange(-18, 18, dtype=np.int8).reshape(1, 1, 6, 6)}, kernel_shape=[3, 3], pads=[1, 1, 0, 0]
    )


# recurrent layers

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [None, [3, 5]])
def test_recurrent(op: str, direction: str, lengths: list[int] | None) -> None:
    size, directions, gates = 3, 2 if direction == "bidirectional" else 1, GATES[op]
    constants: dict[int, Any] = {
        1: normal(directions, gates * size, 4) * 0.5,
        2: normal(directions, gates * size, size) * 0.5,
        3: normal(directions, 2 * gates * size),
        4: None if lengths is None else np.int32(lengths),
        5: normal(directions, 2, size),
    }
    attributes: dict[str, Any] = {"hidden_size": size, "direction": direction, "clip": 0.9}
    if op == "LSTM":
        constants |= {6: normal(directions, 2, size), 7: normal(directions, 3 * size)}
    check(op, {"x": normal(5, 2, 4)}, outputs=3 if op == "LSTM" else 2, constants=constants, **attributes)


def test_recurrent_options() -> None:
    x = {"x": normal(5, 2, 4)}
    w, r, b = normal(1, 9, 4), normal(1, 9, 3), normal(1, 18)
    check("GRU", x, outputs=2, constants={1: w, 2: r, 3: b}, hidden_size=3, linear_before_reset=1)
    check("GRU", x, outputs=2, constants={1: w, 2: r}, hidden_size=3, activations=["HardSigmoid", "Softsign"])
    check(
        "RNN",
        x,
        outputs=2,
        constants={1: normal(2, 3, 4), 2: normal(2, 3, 3)},
        hidden_size=3,
        direction="bidirectional",
        activations=["LeakyRelu", "Affine"],
        activation_alpha=[0.3, 0.7],
        activation_beta=[0.1],
    )
    check("LSTM", x, 3, {1: normal(1, 12, 4), 2: normal(1, 12, 3)}, hidden_size=3, input_forget=1)


# quantized numbers, literal


def test_quantize_rounds_halves_to_even_and_saturates() -> None:
    x = np.float32([-3, -1.5, -0.5, 0.5, 1.5, 2.5, 300])
    ((got, expected),) = both("QuantizeLinear", {"x": x}, constants={1: np.float32(1), 2: np.uint8(1)})
    assert got.tolist() == expected.tolist() == [0, 0, 1, 1, 3, 3, 255]


def test_quantize_along_an_axis_and_in_blocks() -> None:
    x = {"x": normal(4, 6)}
    check("QuantizeLinear", x, constants={1: np.float32([0.1, 0.2, 0.3, 0.4]), 2: np.int8([0, 1, 2, 3])}, axis=0)
    blocks = {1: np.abs(normal(4, 2)) + 0.1, 2: np.zeros((4, 2), np.int8)}
    check("QuantizeLinear", x, constants=blocks, axis=1, block_size=3, opset=21)
    check("DequantizeLinear", {"x": np.int8(normal(4, 6) * 40)}, constants=blocks, axis=1, block_size=3, opset=21)


def test_integer_products() -> None:
    a, b = (
        np.uint8(FLOATS.integers(0, 256, (3, 4))),
        np.int8(FLOATS.integers(-64, 64, (4, 5))),
    )  # no sums beyond 16 bits
    check("MatMulInteger", {"a": a, "b": b}, constants={2: np.uint8(7), 3: np.int8([1, -2, 3, 0, 5])}, opset=17)
    x, w = np.uint8(FLOATS.integers(0, 256, (1, 2, 5, 5))), np.int8(FLOATS.integers(-64, 64, (3, 2, 3, 3)))
    check("ConvInteger", {"x": x}, constants={1: w.view(np.uint8), 2: np.uint8(9)}, pads=[1, 0, 1, 2])


# arithmetic of integers


def test_division_and_remainders_of_integers() -> None:
    a, b = np.int32([7, -7, 7, -7]), np.int32([2, 2, -2, -2])
    for op, expected, attributes in (
        ("Div", [3, -3, -3, 3], {}),
        ("Mod", [1, 1, -1, -1], {}),
        ("Mod", [1, -1, 1, -1], {"fmod": 1}),
    ):
        ((got, runtime),) = both(op, {"a": a, "b": b}, **attributes)
        assert got.tolist() == runtime.tolist() == expected


def test_the_result_of_pow_has_the_type_of_the_base() -> None:
    ((got, expected),) = both("Pow", {"a": np.int32([2, 3])}, constants={1: np.float32([0.5, 2])})
    assert got.dtype == expected.dtype == np.int32 and got.tolist() == expected.tolist() == [1, 9]


# what stays on the host


@pytest.mark.parametrize("batch", [1, 3])
def test_shapes_are_computed_on_the_host(batch: int) -> None:
    """x (N, 2, 6) -> (N · 2, 2, 3), by Shape, Gather, Mul, Div and Concat."""
    b = Builder()
    shape = b.node("Shape", ["x"])
    n, c, w = (b.node("Gather", [shape, b.constant(np.int64([i]))]) for i in range(3))
    half = b.node("Div", [w, b.constant(np.int64([2]))])
    sizes = b.node("Concat", [b.node("Mul", [n, c]), b.constant(np.int64([2])), half], axis=0)
    b.node("Reshape", ["x", sizes], "y")
    module = to_torch(load(b.proto({"x": ("N", 2, 6)}, ["y"]), normalize=False))
    x = torch.randn(batch, 2, 6)
    program = torch.export.export(module, (x,), strict=False)
    assert torch.equal(program.module()(x)[0], x.reshape(batch * 2, 2, 3))
    assert [str(n.target) for n in program.graph.nodes if n.op == "call_function"] in (
        ["aten.reshape.default"],
        ["aten.view.default"],
    )


# ONNX Runtime's own operators


def test_matmul_nbits() -> None:
    n, k, block = 5, 64, 32
    for bits in (2, 4, 8):
        packed = np.uint8(FLOATS.integers(0, 256, (n, k // block, block * bits // 8)))
        scales = np.abs(normal(n, k // block)) * 0.1
        zeros = np.uint8(FLOATS.integers(0, 256, (n, -(-k // block * bits // 8))))
        for constants in ({1: packed, 2: scales}, {1: packed, 2: scales, 3: zeros}):
            check(
                "MatMulNBits",
                {"x": normal(3, k)},
                constants=constants,
                domain="com.microsoft",
                N=n,
                K=k,
                bits=bits,
                block_size=block,
                rtol=1e-4,
                atol=1e-3,
            )


def test_gather_block_quantized() -> None:
    scales, zeros = np.abs(normal(6, 2)), np.uint8(FLOATS.integers(0, 256, (6, 1)))
    for constants in ({2: scales}, {2: scales, 3: zeros}):
        check(
            "GatherBlockQuantized",
            {"i": np.int64([[0, 5], [-1, 2]])},
            constants={0: np.uint8(FLOATS.integers(0, 256, (6, 16))), **constants},
            domain="com.microsoft",
            bits=4,
            block_size=16,
            gather_axis=0,
            quantize_axis=1,
        )


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved: int) -> None:
    tables = {2: normal(8, 4), 3: normal(8, 4)}
    options = {"domain": "com.microsoft", "interleaved": interleaved}
    positions = np.int64([[0, 3, 1], [7, 2, 2]])
    check("RotaryEmbedding", {"x": normal(2, 5, 3, 8), "p": positions}, constants=tables, **options)
    check("RotaryEmbedding", {"x": normal(2, 3, 16), "p": np.int64([2])}, constants=tables, **options)
    options |= {"num_heads": 2, "rotary_embedding_dim": 8}
    check("RotaryEmbedding", {"x": normal(2, 3, 24), "p": positions}, constants=tables, **options)


def test_small_operators_of_onnx_runtime() -> None:
    x, options = {"x": normal(2, 3, 8)}, {"domain": "com.microsoft"}
    gamma, beta, bias = normal(8), normal(8), normal(8)
    for op in ("Gelu", "QuickGelu"):
        check(op, x, rtol=1e-4, **options)
    check("BiasGelu", x, constants={1: bias}, rtol=1e-4, **options)
    check("FastGelu", x, constants={1: bias}, rtol=1e-4, **options)
    skip = x | {"skip": normal(2, 3, 8)}
    check("SkipLayerNormalization", skip, constants={2: gamma, 3: beta, 4: bias}, epsilon=1e-5, **options)
    check("SkipSimplifiedLayerNormalization", skip, constants={2: gamma, 3: bias}, epsilon=1e-5, **options)
    check("SimplifiedLayerNormalization", x, constants={1: gamma}, axis=-1, epsilon=1e-5)
    check("FusedMatMul", x | {"b": normal(2, 4, 8)}, transB=1, alpha=0.5, **options)
    check("FusedMatMul", {"a": normal(3, 2, 8)}, constants={1: normal(2, 8, 4)}, transBatchA=1, **options)


# Resize beyond what the node tests have


@settings(max_examples=80, deadline=None)
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    transform=st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]),
    nearest=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_resize(mode: str, transform: str, nearest: str, sizes: tuple[int, int]) -> None:
    options: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transform, "nearest_mode": nearest}
    constants = {1: None, 2: None, 3: np.int64([1, 2, *sizes])}
    check("Resize", {"x": normal(1, 2, 5, 6)}, constants=constants, atol=1e-4, opset=18, **options)


def test_uint16_is_widened_and_narrowed_again() -> None:
    a = np.uint16([1, 40000, 65535])
    b = Builder()
    total = b.node("Add", ["a", "a"])
    b.node("Concat", [total, "a"], "y", axis=0)
    model = b.proto({"a": (3,)}, ["y"], dtypes={"a": TensorProto.UINT16, "y": TensorProto.UINT16})
    (y,) = to_torch(load(model, normalize=False))(torch.from_numpy(a))
    assert y.dtype == torch.uint16 and y.tolist() == [2, 14464, 65534, 1, 40000, 65535]
