"""What a file is besides its numbers: bytes, alignment, signature, metadata, versions, layout, refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from fewbit.errors import DataError, ModelError
from fewbit.formats.litert.read.door import read_litert
from fewbit.formats.litert.schema import operator_names, schema
from fewbit.formats.litert.write import convert, write_litert
from fewbit.formats.litert.write.layout import after_transpose, between, only_ones_move, reshaped
from fewbit.graph.load import load
from tests.formats.litert.write import nets
from tests.formats.litert.write.cases import COMPUTING, Case, w
from tests.formats.litert.write.cases_moving import CASES
from tests.formats.litert.write.quantizing import quantized
from tests.formats.litert.write.running import KINDS, interpreter, kernels, relative, run_file, run_model
from tests.formats.litert.write.test_integers import sample
from tests.graph.build import model, node

pytest.importorskip("ai_edge_litert")


def parsed(data: bytes) -> object:
    return schema().ModelT.InitFromPackedBuf(data, 0)


def versions(data: bytes) -> dict[str, int]:
    return {operator_names()[code.builtinCode]: code.version for code in parsed(data).operatorCodes}  # type: ignore[attr-defined]


def test_the_same_model_gives_the_same_bytes() -> None:
    source = quantized(nets.depthwise(), sample(nets.depthwise()))
    assert write_litert(load(source)) == write_litert(load(source))


def test_in_another_process_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "m.onnx"
    onnx.save(nets.cnn(), path)
    script = (
        "import sys, hashlib; from fewbit.graph.load import load; from fewbit.formats.litert.write import write_litert; "
        "print(hashlib.sha256(write_litert(load(sys.argv[1]))).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script, str(path)],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_buffers_are_aligned_and_stored_once() -> None:
    source = nets.depthwise()
    for tensor in source.graph.initializer:
        if tensor.name.startswith("eb"):  # biases of the same integers at other scales
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(24, np.float32), tensor.name))
    data = write_litert(load(quantized(source, sample(source))))
    root = schema().Model.GetRootAs(data, 0)
    seen = set()
    for index in range(root.BuffersLength()):
        table = root.Buffers(index)._tab
        field = table.Offset(4)
        if field:
            start, size = table.Vector(field), table.VectorLen(field)
            assert start % 16 == 0
            assert data[start : start + size] not in seen
            seen.add(data[start : start + size])
    assert data[4:8] == b"TFL3"
    constants = [
        (t.buffer, t.type, tuple(t.shape), tuple(t.quantization.scale) if t.quantization is not None else ())
        for t in parsed(data).subgraphs[0].tensors  # type: ignore[attr-defined]
        if t.buffer
    ]
    assert len(constants) == len(set(constants))


def test_signature_and_metadata() -> None:
    written = convert(load(nets.cnn()), metadata={"origin": b"a test"})
    runner = interpreter(written.data, "AUTO").get_signature_runner("serving_default")
    assert {k: tuple(v["shape"]) for k, v in runner.get_input_details().items()} == {"x": (1, 3, 32, 32)}
    assert {k: tuple(v["shape"]) for k, v in runner.get_output_details().items()} == {"y": (1, 10)}
    made = parsed(written.data)
    held = {m.name.decode(): bytes(made.buffers[m.buffer].data) for m in made.metadata}  # type: ignore[attr-defined]
    assert held["origin"] == b"a test"
    assert held["min_runtime_version"].rstrip(b"\0") == b"1.14.0"
    assert len(held["min_runtime_version"]) == 16
    assert [d["name"] for d in interpreter(written.data, "AUTO").get_input_details()] == ["x"]


def test_versions_are_those_that_the_kernels_came_with() -> None:
    float_file = versions(write_litert(load(nets.cnn())))
    assert float_file == dict.fromkeys(float_file, 1)
    eight = versions(write_litert(load(quantized(nets.cnn(), sample(nets.cnn())))))
    assert eight == {
        "QUANTIZE": 1, "TRANSPOSE": 2, "PAD": 2, "CONV_2D": 3, "MAX_POOL_2D": 2, "CONCATENATION": 2, "AVERAGE_POOL_2D": 2,
        "RESHAPE": 1, "FULLY_CONNECTED": 4, "SOFTMAX": 2, "DEQUANTIZE": 2,
    }  # fmt: skip
    sixteen = versions(write_litert(load(quantized(nets.cnn(), sample(nets.cnn()), dtype="int16"))))
    assert (sixteen["CONV_2D"], sixteen["FULLY_CONNECTED"], sixteen["QUANTIZE"]) == (4, 7, 2)


def test_a_layout_change_is_written_once() -> None:
    """The image comes in channels first; nothing after that is transposed."""
    assert kernels(write_litert(load(nets.depthwise())))["TRANSPOSE"] == 1
    assert kernels(write_litert(load(nets.cnn())))["TRANSPOSE"] == 1
    rows = CASES["Reshape"][2]  # Conv, Reshape to rows of channels, Transpose to rows of pixels
    assert kernels(write_litert(load(rows.model())))["TRANSPOSE"] == 1


def test_no_transposes_where_the_file_had_none() -> None:
    """Channels last outside and inside: the hub's transposes are relabelling."""
    nodes = [node("Transpose", ["x"], ["n"], perm=[0, 3, 1, 2]), *nets.cnn().graph.node]
    nodes[1].input[0] = "n"
    source = nets.cnn()
    del source.graph.node[:]
    source.graph.node.extend(nodes)
    for axis, size in enumerate((1, 32, 32, 3)):
        source.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    data = write_litert(load(source))
    assert "TRANSPOSE" not in kernels(data)
    again = write_litert(read_litert(data).model)
    assert kernels(again) == kernels(data)
    feed = {"x": w(1, 32, 32, 3)}
    for kind in KINDS:
        assert relative(run_file(data, feed, kind)["y"], run_model(source, feed)[0]) < 1e-4
        assert np.array_equal(run_file(again, feed, kind)["y"], run_file(data, feed, kind)["y"])


def test_layouts() -> None:
    nhwc, nchw = (0, 2, 3, 1), (0, 1, 2, 3)
    assert between(nchw, nhwc) == (0, 2, 3, 1)
    assert between(nhwc, nchw) == (0, 3, 1, 2)
    assert after_transpose(nhwc, (0, 2, 3, 1)) == nchw
    assert only_ones_move((1, 5, 1, 1), nchw, nhwc)
    assert not only_ones_move((1, 5, 1, 2), nchw, nhwc)


def test_reshapes_that_need_no_transpose() -> None:
    nhwc = (0, 2, 3, 1)
    assert reshaped((1, 85, 52, 52), (1, 85, 2704), nhwc) == (0, 2, 1)
    assert reshaped((1, 8, 4, 4), (1, 128), nhwc) is None
    assert reshaped((1, 8, 1, 1), (1, 8), nhwc) == (0, 1)
    assert reshaped((2, 3, 4), (2, 12), (0, 1, 2)) == (0, 1)
    assert reshaped((2, 12), (2, 1, 3, 4), (0, 1)) == (0, 1, 2, 3)
    assert reshaped((6, 4), (2, 3, 4), (1, 0)) == (2, 0, 1)


def test_open_sizes() -> None:
    source = model([node("MatMul", ["x", "w"], ["y"])], ["x:f[N,L,4]"], ["y:f[N,L,3]"], {"w": w(4, 3)})
    with pytest.raises(DataError, match=r"input 'x' has the open shape .* give sizes"):
        write_litert(load(source))
    with pytest.raises(DataError, match="no input 'z'"):
        write_litert(load(source), shapes={"z": (1, 2, 4)})
    with pytest.raises(DataError, match="contradicts"):
        write_litert(load(source), shapes={"x": (1, 2, 5)})
    feed = {"x": w(2, 5, 4)}
    data = write_litert(load(source), shapes={"x": (2, 5, 4)})
    assert relative(run_file(data, feed, "AUTO")["y"], run_model(source, feed)[0]) < 1e-5


def test_one_symbol_is_one_size() -> None:
    source = model([node("Add", ["a", "b"], ["y"])], ["a:f[N,L]", "b:f[N,L]"], ["y:f[N,L]"])
    data = write_litert(load(source), shapes={"a": (1, 7)})
    assert tuple(interpreter(data, "AUTO").get_input_details()[1]["shape"]) == (1, 7)
    with pytest.raises(DataError, match="'L' is 7 in one input and 8"):
        write_litert(load(source), shapes={"a": (1, 7), "b": (1, 8)})


def test_wide_integers_are_told_of() -> None:
    source = model([node("Gather", ["t", "x"], ["y"])], ["x:i[2]"], ["y:f[2,4]"], {"t": w(5, 4)})
    assert convert(load(source)).notes == ("'x' is int64 in the model and int32 in the file",)


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        (
            [node("Resize", ["x", "", "s"], ["y"], mode="cubic")],
            {"s": np.array([1, 1, 2, 2], np.float32)},
            "mode cubic",
        ),
        ([node("NonZero", ["x"], ["y"])], {}, "NonZero|every size"),
        ([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2])], {}, "dilations"),
        ([node("Cast", ["x"], ["z"], to=11), node("Cast", ["z"], ["y"], to=1)], {}, "DOUBLE"),
        ([node("Det", ["x"], ["y"])], {}, "no row for Det"),
    ],
)
def test_refusals(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        write_litert(load(model(nodes, ["x:f[1,2,8,8]"], ["y:f"], constants)))
    assert "\n" not in str(caught.value)


def test_a_constant_beyond_int32_is_refused() -> None:
    source = model([node("Add", ["x", "c"], ["y"])], ["x:i[2]"], ["y:i[2]"], {"c": np.array([1 << 40, 1])})
    with pytest.raises(ModelError, match="1099511627776, which does not fit int32"):
        write_litert(load(source))


@pytest.mark.parametrize("seed", range(40))
def test_reshaped_layouts_hold_the_same_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = tuple(int(n) for n in rng.choice([1, 2, 3, 4], rng.integers(1, 5)))
    factors = [f for size in before for f in ([2, 2] if size == 4 else [size])]
    cuts = sorted(rng.choice(len(factors) + 1, rng.integers(0, 3)))
    after = tuple(int(np.prod(part)) for part in np.split(np.array(factors), cuts))
    layout = tuple(int(a) for a in rng.permutation(len(before)))
    found = reshaped(before, after, layout)
    values = np.arange(int(np.prod(before))).reshape(before)
    if found is not None:
        lying = values.transpose(layout).reshape([after[axis] for axis in found])
        assert np.array_equal(lying, values.reshape(after).transpose(found))
    else:
        assert layout != tuple(range(len(before)))


def test_a_tied_weight_is_in_the_file_once() -> None:
    """An embedding that is also the last layer: the hub keeps one tensor and a Transpose, the file one buffer."""
    table = w(50, 16)
    source = model(
        [
            node("Gather", ["t", "x"], ["a"]),
            node("Transpose", ["t"], ["u"], perm=[1, 0]),
            node("MatMul", ["a", "u"], ["y"]),
        ],
        ["x:i[1,4]"],
        ["y:f[1,4,50]"],
        {"t": table},
    )
    data = write_litert(load(source))
    assert kernels(data) == {"GATHER": 1, "FULLY_CONNECTED": 1}
    assert data.count(table.tobytes()) == 1
    feed = {"x": np.array([[3, 7, 1, 49]])}
    assert relative(run_file(data, feed, "AUTO")["y"], run_model(source, feed)[0]) < 1e-5


@pytest.mark.parametrize("build", [nets.cnn, nets.depthwise, nets.transformer])
def test_integers_come_back_as_they_were(build: Callable[[], onnx.ModelProto]) -> None:
    """Written, read and written again: the same operators and the same integers."""
    source = build()
    feed = sample(source)
    once = write_litert(load(quantized(source, feed)))
    twice = write_litert(read_litert(once).model)
    assert kernels(twice) == kernels(once)
    for kind in KINDS:
        assert np.array_equal(run_file(once, feed, kind)["y"], run_file(twice, feed, kind)["y"])


def test_narrow_integers_without_a_scale_are_refused() -> None:
    """The kernels read the scale of every 8-bit tensor; without one the interpreter crashes."""
    bytes_in = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT8, [4])
    bytes_out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT8, [4])
    with pytest.raises(ModelError, match=r"int8 without a scale.*cast it to int32"):
        write_litert(load(model([node("Add", ["x", "x"], ["y"])], [bytes_in], [bytes_out])))
    moved = write_litert(
        load(model([node("Gather", ["x", "i"], ["y"])], [bytes_in], [bytes_out], {"i": np.arange(4)[::-1]}))
    )
    feed = {"x": np.array([1, -2, 3, -4], np.int8)}
    assert run_file(moved, feed, "AUTO")["y"].tolist() == [-4, 3, -2, 1]


def test_an_activation_has_one_scale() -> None:
    scales = {"s": np.array([0.1, 0.2], np.float32), "z": np.zeros(2, np.int8)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    with pytest.raises(ModelError, match="activation 'q' has 2 scales"):
        write_litert(load(model(nodes, ["x:f[1,2,3]"], ["y:f[1,2,3]"], scales)))


def test_an_output_that_the_operator_does_not_have_is_refused() -> None:
    source = model(
        [node("LayerNormalization", ["x", "s"], ["y", "m"])], ["x:f[2,4]"], ["y:f[2,4]", "m:f[2,1]"], {"s": w(4)}
    )
    with pytest.raises(ModelError, match="mean and deviation are read"):
        write_litert(load(source))
    pooled = model([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])], ["x:f[1,1,4,4]"], ["y:f", "i:i"])
    with pytest.raises(ModelError, match="it gives indices"):
        write_litert(load(pooled))


def test_outputs_that_are_inputs_constants_or_each_other() -> None:
    source = model(
        [
            node("Relu", ["x"], ["y"]),
            node("Identity", ["y"], ["z"]),
            node("Identity", ["x"], ["v"]),
            node("Transpose", ["y"], ["t"], perm=[1, 0]),
        ],
        ["x:f[2,3]"],
        ["y:f[2,3]", "z:f[2,3]", "v:f[2,3]", "t:f[3,2]", "k:f[3]"],
        {"k": w(3)},
    )
    feed = {"x": w(2, 3)}
    data = write_litert(load(source))
    assert [d["name"] for d in interpreter(data, "AUTO").get_output_details()] == ["y", "z", "v", "t", "k_output"]
    for kind in KINDS:
        outputs = run_file(data, feed, kind)
        for info, wanted in zip(source.graph.output, run_model(source, feed), strict=True):
            assert np.array_equal(outputs[info.name], wanted)


def test_a_value_that_is_read_and_given_out() -> None:
    source = model(
        [node("Conv", ["x", "w"], ["y"]), node("Relu", ["y"], ["z"])],
        ["x:f[1,2,4,4]"],
        ["y:f", "z:f"],
        {"w": w(2, 2, 3, 3)},
    )
    feed = {"x": w(1, 2, 4, 4)}
    outputs = run_file(write_litert(load(source)), feed, "AUTO")
    assert all(relative(outputs[n], e) < 1e-5 for n, e in zip(("y", "z"), run_model(source, feed), strict=True))


def test_a_scale_that_is_no_positive_number_is_refused() -> None:
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    constants = {"s": np.float32(0), "z": np.int8(0)}
    with pytest.raises(ModelError, match=r"has the scale 0\.0"):
        write_litert(load(model(nodes, ["x:f[2]"], ["y:f[2]"], constants)))


@pytest.mark.parametrize("case", [CASES["Split"][1], CASES["Gather"][1], CASES["Expand"][0], COMPUTING["Clip"][4]])
def test_xnnpack_takes_it(case: Case) -> None:
    """Not SPLIT_V, GATHER, BROADCAST_TO or RELU_0_TO_1, which cut a network into pieces."""
    made = interpreter(write_litert(load(case.model())), "AUTO")
    assert [op["op_name"] for op in made._get_ops_details()].count("DELEGATE") == 1
