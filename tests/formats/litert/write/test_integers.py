"""Full-integer files agree with ONNX Runtime's simulation of the same QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from fewbit.formats.litert.rules import KERNELS
from fewbit.formats.litert.write import write_litert
from fewbit.graph.load import load
from tests.formats.litert.write import nets
from tests.formats.litert.write.cases_moving import CASES
from tests.formats.litert.write.quantizing import quantized
from tests.formats.litert.write.running import KINDS, kernels, relative, run_file, run_model, sqnr, types_of
from tests.formats.litert.write.test_rows import feed_of

pytest.importorskip("ai_edge_litert")

LEAST = {"AUTO": 40.0, "BUILTIN_WITHOUT_DEFAULT_DELEGATES": 36.0}
"""dB. Kernels round a tie, and sums of Add and Softmax, otherwise than the simulation: single steps apart. LiteRT's own have
tables for Gelu and Softmax."""

MOST_STEPS = {"LogSoftmax": 2.01}
"""How far a kernel with tables may be off; others by one step of the output."""

NETS = {"cnn": nets.cnn, "depthwise": nets.depthwise, "transformer": nets.transformer}


def sample(model: onnx.ModelProto, seed: int = 3) -> dict[str, np.ndarray]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_networks(build: Callable[[], onnx.ModelProto], dtype: str) -> None:
    model = build()
    feed = sample(model)
    skip = ("Gelu",) if dtype == "int16" else ()  # there is no such kernel
    form = quantized(model, feed, dtype=dtype, skip=skip)
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
    model = nets.cnn()
    feed = sample(model)
    form = quantized(model, feed)
    output = run_file(write_litert(load(form)), feed, "AUTO")["y"]
    assert np.array_equal(output, run_model(form, feed)[0])


def test_unsigned_and_signed_are_the_same_file() -> None:
    model = nets.cnn()
    feed = sample(model)
    one, other = (write_litert(load(quantized(model, feed, dtype=dtype))) for dtype in ("int8", "uint8"))
    assert kernels(one) == kernels(other)
    assert np.array_equal(run_file(one, feed, "AUTO")["y"], run_file(other, feed, "AUTO")["y"])


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("op", [*(name for name in KERNELS if name in CASES and name != "Identity"), "Resize"])
def test_every_integer_kernel(op: str, dtype: str) -> None:
    """At most one step away for each operator, or float where the rules have no kernel."""
    for case in CASES[op]:
        model = case.model()
        if any(n.op_type == "Split" and len(n.input) == 1 for n in model.graph.node):
            continue  # opset 21, which Q and DQ of 16 bits need, has another Split
        model.opset_import[0].version, model.ir_version = max(21, case.opset), 10
        feed = feed_of(model, case.positive)
        form = quantized(model, feed, dtype=dtype)
        data = write_litert(load(form))
        expected = run_model(form, feed)
        for kind in KINDS:
            outputs = run_file(data, feed, kind)
            for info, wanted in zip(model.graph.output, expected, strict=True):
                scale = scale_of(form, info.name)
                steps = np.abs(outputs[info.name] - wanted).max() / scale
                assert steps <= MOST_STEPS.get(op, 1.01) * len(model.graph.node) * (2 if dtype == "int16" else 1), kind


def scale_of(model: onnx.ModelProto, output: str) -> float:
    producer = next(n for n in model.graph.node if output in n.output)
    scale = next(t for t in model.graph.initializer if t.name == producer.input[1])
    return float(onnx.numpy_helper.to_array(scale))


@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_scales_that_kernels_do_not_allow_are_requantized(build: Callable[[], onnx.ModelProto]) -> None:
    """Each output has a range of its own: also those of pools, moves, Softmax and Sigmoid."""
    model = build()
    feed = sample(model)
    form = quantized(model, feed, fixed=False, same=False)
    data = write_litert(load(form))
    expected = run_model(form, feed)[0]
    for kind in KINDS:
        # Softmax at 1/256 and then at the range's scale rounds twice.
        assert sqnr(expected, run_file(data, feed, kind)["y"]) >= LEAST[kind] - 5
    assert types_of(data) == {"float32", "int8"}
    assert kernels(data)["QUANTIZE"] > 1


def test_concat_of_two_scales() -> None:
    """CONCATENATION copies integers: an input of another scale is requantized, not misread."""
    case = CASES["Concat"][0]
    model = case.model()
    model.opset_import[0].version, model.ir_version = 21, 10
    feed = feed_of(model, False)
    feed["x1"] = feed["x1"] * 10
    form = quantized(model, feed)
    outputs = run_file(write_litert(load(form)), feed, "BUILTIN_WITHOUT_DEFAULT_DELEGATES")
    assert relative(outputs["y"], run_model(form, feed)[0]) < 0.01


def test_a_float_island_stays_float() -> None:
    """Q and DQ around an operator without an integer kernel are written, and around one on one side only."""
    model = nets.transformer()
    feed = sample(model)
    form = quantized(model, feed, skip=("Softmax",))
    data = write_litert(load(form))
    assert sqnr(run_model(form, feed)[0], run_file(data, feed, "AUTO")["y"]) >= LEAST["AUTO"]
    assert kernels(data)["DEQUANTIZE"] > 1
