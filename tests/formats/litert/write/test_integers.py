"""Full-integer files agree with ONNX Runtime's simulation of the same QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from fewbit.errors import ModelError
from fewbit.formats.litert.rules import KERNELS
from fewbit.formats.litert.write import write_litert
from fewbit.graph.load import load
from tests.formats.litert.write import nets
from tests.formats.litert.write.cases import w
from tests.formats.litert.write.cases_moving import CASES
from tests.formats.litert.write.quantizing import quantized
from tests.formats.litert.write.running import KINDS, kernels, relative, run_file, run_model, sqnr, types_of
from tests.formats.litert.write.test_rows import feed_of
from tests.graph.build import model, node

pytest.importorskip("ai_edge_litert")

LEAST = {"AUTO": 40.0, "BUILTIN_WITHOUT_DEFAULT_DELEGATES": 36.0}
"""dB. Kernels round a tie, and sums of Add and Softmax, otherwise than the simulation: single steps apart. LiteRT's own have
tables for Gelu and Softmax."""

MOST_STEPS = {"LogSoftmax": 2.01}
"""How far a kernel with tables may be off; others by one step of the output."""

NETS = {"cnn": nets.cnn, "depthwise": nets.depthwise, "transformer": nets.transformer}


def sample(source: onnx.ModelProto, seed: int = 3) -> dict[str, np.ndarray]:
    shape = [d.dim_value for d in source.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_networks(build: Callable[[], onnx.ModelProto], dtype: str) -> None:
    source = build()
    feed = sample(source)
    skip = ("Gelu",) if dtype == "int16" else ()  # there is no such kernel
    form = quantized(source, feed, dtype=dtype, skip=skip)
    data = write_litert(load(form))
    expected = run_model(form, feed)[0]
    step = float(np.unique(np.diff(np.unique(expected))).min())
    for kind in KINDS:
        output = run_file(data, feed, kind)["y"]
        assert sqnr(expected, output) >= LEAST[kind], kind
        differ = np.abs(output - expected) > step / 2
        print(f"{kind}: {int(differ.sum())} of {differ.size} integers differ")
    counts = kernels(data)
    floats = 1 + (dtype == "int16" and "GELU" in counts)
    assert counts["DEQUANTIZE"] == floats
    assert counts["QUANTIZE"] >= 1
    assert types_of(data) == {"float32", "int16" if dtype == "int16" else "int8"}


def test_xnnpack_makes_the_same_integers() -> None:
    source = nets.cnn()
    feed = sample(source)
    form = quantized(source, feed)
    output = run_file(write_litert(load(form)), feed, "AUTO")["y"]
    assert np.array_equal(output, run_model(form, feed)[0])


def test_unsigned_and_signed_are_the_same_file() -> None:
    source = nets.cnn()
    feed = sample(source)
    one, other = (write_litert(load(quantized(source, feed, dtype=dtype))) for dtype in ("int8", "uint8"))
    assert kernels(one) == kernels(other)
    assert np.array_equal(run_file(one, feed, "AUTO")["y"], run_file(other, feed, "AUTO")["y"])


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize(
    "op", [*(name for name in KERNELS if name in CASES and name != "Identity"), "Resize", "LpNormalization"]
)
def test_every_integer_kernel(op: str, dtype: str) -> None:
    """At most one step away for each operator, or float where the rules have no kernel."""
    for case in CASES[op]:
        source = case.model()
        if any(n.op_type == "Split" and len(n.input) == 1 for n in source.graph.node):
            continue  # opset 21, which Q and DQ of 16 bits need, has another Split
        source.opset_import[0].version, source.ir_version = max(21, case.opset), 10
        feed = feed_of(source, case.positive)
        form = quantized(source, feed, dtype=dtype)
        data = write_litert(load(form))
        expected = run_model(form, feed)
        for kind in KINDS:
            outputs = run_file(data, feed, kind)
            for info, wanted in zip(source.graph.output, expected, strict=True):
                scale = scale_of(form, info.name)
                steps = np.abs(outputs[info.name] - wanted).max() / scale
                assert steps <= MOST_STEPS.get(op, 1.01) * len(source.graph.node) * (2 if dtype == "int16" else 1), kind


def scale_of(source: onnx.ModelProto, output: str) -> float:
    producer = next(n for n in source.graph.node if output in n.output)
    scale = next(t for t in source.graph.initializer if t.name == producer.input[1])
    return float(onnx.numpy_helper.to_array(scale))


@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_scales_that_kernels_do_not_allow_are_requantized(build: Callable[[], onnx.ModelProto]) -> None:
    """Each output has a range of its own: also those of pools, moves, Softmax and Sigmoid."""
    source = build()
    feed = sample(source)
    form = quantized(source, feed, fixed=False, same=False)
    data = write_litert(load(form))
    expected = run_model(form, feed)[0]
    for kind in KINDS:
        # Softmax at 1/256 and then at the range's scale rounds twice.
        assert sqnr(expected, run_file(data, feed, kind)["y"]) >= LEAST[kind] - 5
    assert types_of(data) == {"float32", "int8"}
    assert kernels(data)["QUANTIZE"] > 1


def test_sixteen_bits_are_symmetric() -> None:
    source = nets.cnn()
    form = quantized(source, sample(source), dtype="int16")
    zero = next(t for t in form.graph.initializer if t.name == "r0_z")
    zero.CopyFrom(onnx.numpy_helper.from_array(np.array(-32768, np.int16), "r0_z"))
    with pytest.raises(ModelError, match="'r0_q' has 16 bits and the zero point -32768"):
        write_litert(load(form))


def test_concat_of_two_scales() -> None:
    """CONCATENATION copies integers: an input of another scale is requantized, not misread."""
    case = CASES["Concat"][0]
    source = case.model()
    source.opset_import[0].version, source.ir_version = 21, 10
    feed = feed_of(source, False)
    feed["x1"] = feed["x1"] * 10
    form = quantized(source, feed)
    outputs = run_file(write_litert(load(form)), feed, "BUILTIN_WITHOUT_DEFAULT_DELEGATES")
    assert relative(outputs["y"], run_model(form, feed)[0]) < 0.01


def test_a_float_island_stays_float() -> None:
    """Q and DQ around an operator without an integer kernel are written, and around one on one side only."""
    source = nets.transformer()
    feed = sample(source)
    form = quantized(source, feed, skip=("Softmax",))
    data = write_litert(load(form))
    assert sqnr(run_model(form, feed)[0], run_file(data, feed, "AUTO")["y"]) >= LEAST["AUTO"]
    assert kernels(data)["DEQUANTIZE"] > 1


def test_a_clip_that_no_kernel_has_runs_on_the_integers() -> None:
    """Clip and then quantize is quantize and then clip: the convolution makes the integers, and no float is left."""
    source = model(
        [node("Conv", ["x", "w"], ["a"]), node("Clip", ["a", "lo", "hi"], ["b"]), node("Conv", ["b", "v"], ["y"])],
        ["x:f[1,3,8,8]"],
        ["y:f[1,2,6,6]"],
        {"w": w(4, 3, 3, 3), "v": w(2, 4, 1, 1), "lo": np.float32(-0.5), "hi": np.float32(2)},
        opset=21,
        ir_version=10,
    )
    feed = sample(source)
    form = quantized(source, feed)
    data = write_litert(load(form))
    assert types_of(data) == {"float32", "int8"}
    assert kernels(data)["QUANTIZE"] == kernels(data)["DEQUANTIZE"] == 1
    assert np.array_equal(run_file(data, feed, "AUTO")["y"], run_model(form, feed)[0])


def test_a_mean_has_a_scale_of_its_own() -> None:
    """AVERAGE_POOL_2D keeps its input's scale; over a whole image MEAN does the same and need not."""
    source = model(
        [node("Relu", ["x"], ["a"]), node("AveragePool", ["a"], ["y"], kernel_shape=[8, 8])],
        ["x:f[1,3,8,8]"],
        ["y:f[1,3,1,1]"],
        opset=21,
        ir_version=10,
    )
    feed = sample(source)
    own = quantized(source, feed, same=False)
    data = write_litert(load(own))
    assert kernels(data)["MEAN"] == 1
    expected = run_model(own, feed)[0]
    assert np.abs(run_file(data, feed, "AUTO")["y"] - expected).max() <= 1.01 * scale_of(own, "y")
    assert kernels(write_litert(load(quantized(source, feed))))["AVERAGE_POOL_2D"] == 1
