"""Bad models, each with one line that says what is wrong with what."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import external_data_helper, helper, numpy_helper

from fewbit.errors import ModelError
from fewbit.graph.load import check_weights, find_quantization, load
from fewbit.graph.weightless import why_weightless
from fewbit.runtimes.onnxruntime import open_session

from .build import assert_same, graph, model, node, run, weights


def problem(source: object) -> str:
    with pytest.raises(ModelError) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def conv() -> onnx.ModelProto:
    return model([node("Conv", ["x", "w"], ["y"])], ["x:f[1,3,8,8]"], ["y:f"], {"w": weights(4, 3, 3, 3)})


class TestFiles:
    def test_missing(self, tmp_path):
        assert problem(tmp_path / "no.onnx") == f"{tmp_path / 'no.onnx'} does not exist"

    def test_folder(self, tmp_path):
        assert "is a folder" in problem(tmp_path)

    def test_empty(self, tmp_path):
        (tmp_path / "m.onnx").touch()
        assert "is empty" in problem(tmp_path / "m.onnx")

    def test_unreadable_kind(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert "is not a file" in problem(tmp_path / "pipe")

    @pytest.mark.parametrize(
        ("start", "hint"),
        [
            (b"\x1c\0\0\0TFL3" + bytes(100), "LiteRT"),
            (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
            (b"GGUF" + bytes(100), "GGUF"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
            (b"<?xml version='1.0'?><net/>", "OpenVINO"),
            (b"\x18\0\0\0ORTM" + bytes(50), ".ort"),
            (b'\x08\0\0\0\0\0\0\0{"a":1}  ' + bytes(8), "safetensors"),
            (b'{"config": 1}', "text"),
            (pickle.dumps({"weights": [1.0]}), "pickle"),
        ],
    )
    def test_other_formats(self, tmp_path, start, hint):
        (tmp_path / "m.onnx").write_bytes(start)
        assert hint in problem(tmp_path / "m.onnx")

    def test_torch_file(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
            archive.writestr("archive/data.pkl", b"")
        assert "PyTorch" in problem(tmp_path / "m.pt")

    def test_noise(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(np.random.default_rng(1).bytes(1000))
        assert "is not an ONNX model" in problem(tmp_path / "m.onnx")

    @pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.97, 0.999])
    def test_truncated(self, tmp_path, part):
        data = conv().SerializeToString()
        (tmp_path / "m.onnx").write_bytes(data[: int(len(data) * part)])
        assert "truncated" in problem(tmp_path / "m.onnx") or part == 0.999

    def test_truncated_at_any_byte_is_a_model_error(self, tmp_path):
        data = model([node("Relu", ["x"], ["y"])], ["x:f[1]"], ["y:f[1]"]).SerializeToString()
        for length in range(len(data)):
            (tmp_path / "m.onnx").write_bytes(data[:length])
            problem(tmp_path / "m.onnx")

    def test_flipped_bytes_never_escape_as_other_errors(self, tmp_path):
        data = bytearray(conv().SerializeToString())
        generator = np.random.default_rng(3)
        for _ in range(300):
            changed = bytearray(data)
            changed[generator.integers(len(data))] = generator.integers(256)
            (tmp_path / "m.onnx").write_bytes(changed)
            try:
                load(tmp_path / "m.onnx")
            except ModelError as error:
                assert "\n" not in str(error)

    def test_wrong_argument(self):
        assert "not int" in problem(3)


class TestGraphs:
    def test_no_graph(self):
        assert "no graph" in problem(onnx.ModelProto(ir_version=8))

    def test_empty_graph(self):
        assert "empty graph" in problem(model([], [], []))

    def test_no_outputs(self):
        assert "no outputs" in problem(model([node("Relu", ["x"], ["y"])], ["x:f"], []))

    def test_newer_opset(self):
        assert "opset 1000, newer than" in problem(model([node("Relu", ["x"], ["y"])], ["x:f"], ["y:f"], opset=1000))

    def test_newer_ir_version(self):
        assert "IR version 99, newer than" in problem(
            model([node("Relu", ["x"], ["y"])], ["x:f"], ["y:f"], ir_version=99)
        )

    def test_missing_opset(self):
        proto = conv()
        proto.ClearField("opset_import")
        assert "no operator set of domain 'ai.onnx'" in problem(proto)

    def test_undefined_input(self):
        assert "reads 'z', which nothing" in problem(model([node("Relu", ["z"], ["y"], name="r")], ["x:f"], ["y:f"]))

    def test_undefined_input_in_a_subgraph(self):
        branch = graph([node("Relu", ["z"], ["t"])], [], ["t:f"])
        proto = model([node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], ["c:b[]"], ["y:f"])
        assert "reads 'z'" in problem(proto)

    def test_undefined_output(self):
        assert "output 'z'" in problem(model([node("Relu", ["x"], ["y"])], ["x:f"], ["z:f"]))

    def test_two_values_of_one_name(self):
        message = problem(model([node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])], ["x:f"], ["y:f"]))
        assert "two values named 'y'" in message

    def test_two_initializers_of_one_name(self):
        proto = conv()
        proto.graph.initializer.append(proto.graph.initializer[0])
        assert "two initializers named 'w'" in problem(proto)

    def test_cycle(self):
        proto = model([node("Add", ["x", "b"], ["a"], name="first"), node("Relu", ["a"], ["b"])], ["x:f"], ["b:f"])
        assert "cycle through node" in problem(proto)

    def test_unsorted_nodes_are_sorted(self):
        proto = model([node("Relu", ["a"], ["y"]), node("Abs", ["x"], ["a"])], ["x:f[2]"], ["y:f"])
        hub = load(proto)
        assert [n.op_type for n in hub.nodes()] == ["Abs", "Relu"]

    def test_wrong_amount_of_data(self):
        proto = conv()
        proto.graph.initializer[0].raw_data = b"123"
        assert "data of tensor 'w' does not fit" in problem(proto)

    def test_no_data(self):
        proto = conv()
        proto.graph.initializer[0].ClearField("raw_data")
        assert "'w' of shape (4, 3, 3, 3) has no data" in problem(proto)

    def test_unknown_operators_pass(self):
        proto = model(
            [node("Mystery", ["x"], ["m"], domain="my.company"), node("Relu", ["m"], ["y"])],
            ["x:f[N,3]"],
            ["y:f"],
            domains=["my.company"],
        )
        assert [n.op_type for n in load(proto).nodes()] == ["Mystery", "Relu"]

    def test_sparse_initializers_become_dense(self):
        proto = model([node("Add", ["x", "s"], ["y"])], ["x:f[4]"], ["y:f"])
        values = numpy_helper.from_array(np.array([5, 7], np.float32), "s")
        proto.graph.sparse_initializer.append(
            helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 3])), [4])
        )
        hub = load(proto)
        assert hub.constant(hub.value("s")).tolist() == [0, 5, 0, 7]


class TestNodes:
    """What an operator's definition forbids."""

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (node("Conv", ["x"], ["y"]), "has 1 inputs; the operator has 2 to 3"),
            (node("Relu", ["x"], ["y", "z"]), "has 2 outputs; the operator has 1"),
            (node("Concat", ["x", "x"], ["y"]), "lacks its attribute 'axis'"),
            (node("Softmax", ["x"], ["y"], axis=0.5), "'axis' of a wrong type"),
            (node("Relu", ["x"], ["y"], slope=0.5), "an attribute 'slope', which the operator has not"),
        ],
        ids=lambda value: value if isinstance(value, str) else value.op_type,
    )
    def test_wrong(self, wrong, message):
        assert message in problem(model([wrong], ["x:f[1,3,8,8]"], ["y:f"]))

    def test_attributes_without_type_or_value(self):
        for fields, message in (({}, "without a type"), ({"type": onnx.AttributeProto.TENSOR}, "without a value")):
            wrong = node("ConstantOfShape", ["x"], ["y"])
            wrong.attribute.append(onnx.AttributeProto(name="value", **fields))
            assert message in problem(model([wrong], ["x:i[1]"], ["y:f"]))

    def test_text_that_is_not_utf8(self):
        data = model([node("Relu", ["x"], ["y"], name="abcdef")], ["x:f"], ["y:f"]).SerializeToString()
        broken = onnx.ModelProto()
        broken.ParseFromString(data.replace(b"abcdef", b"abc\xffef"))
        assert "not UTF-8" in problem(broken)

    def test_documentation_that_is_not_utf8_is_dropped(self):
        proto = conv()
        proto.doc_string = proto.graph.node[0].doc_string = "abcdef"
        broken = onnx.ModelProto()
        broken.ParseFromString(proto.SerializeToString().replace(b"abcdef", b"abc\xffef"))
        assert load(broken).fingerprint() == load(conv_like(proto)).fingerprint()

    def test_an_input_without_a_type(self):
        proto = conv()
        proto.graph.input[0].ClearField("type")
        assert "input 'x' has no data type" in problem(proto)

    def test_an_unknown_data_type(self):
        proto = conv()
        proto.graph.initializer[0].data_type = 99
        assert "unknown data type 99" in problem(proto)


def conv_like(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same without documentation."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.ClearField("doc_string")
    copy.graph.node[0].ClearField("doc_string")
    return copy


class TestExternalData:
    def save(self, folder: Path, **fields: str) -> Path:
        """A model whose weight lies in data.bin; `fields` replace what it says about that."""
        proto = conv()
        tensor = proto.graph.initializer[0]
        (folder / "data.bin").write_bytes(tensor.raw_data)
        external_data_helper.set_external_data(tensor, "data.bin", offset=0, length=len(tensor.raw_data))
        tensor.ClearField("raw_data")
        for entry in tensor.external_data:
            entry.value = fields.get(entry.key, entry.value)
        (folder / "m.onnx").write_bytes(proto.SerializeToString())
        return folder / "m.onnx"

    def test_good(self, tmp_path):
        path = self.save(tmp_path)
        hub = load(path)
        assert isinstance(hub.value("w").const_value, ir.ExternalTensor)
        feed = {"x": weights(1, 3, 8, 8)}
        assert_same(run(onnx.load(path), feed), run(hub, feed), 0)

    def test_a_session_of_the_hub_from_another_working_folder(self, tmp_path, monkeypatch):
        hub = load(self.save(tmp_path))
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        feed = {"x": weights(1, 3, 8, 8)}
        assert_same(run(hub, feed), open_session(hub.model).run(feed), 0)
        assert isinstance(hub.value("w").const_value, ir.ExternalTensor)

    def test_another_working_folder(self, tmp_path, monkeypatch):
        self.save(tmp_path)
        monkeypatch.chdir(tmp_path)
        hub = load("m.onnx")
        monkeypatch.chdir("/")
        assert hub.constant(hub.value("w")).shape == (4, 3, 3, 3)

    def test_missing(self, tmp_path):
        path = self.save(tmp_path)
        (tmp_path / "data.bin").unlink()
        message = problem(path)
        assert "'w'" in message and "'data.bin'" in message and "missing" in message

    def test_short(self, tmp_path):
        path = self.save(tmp_path)
        (tmp_path / "data.bin").write_bytes(b"\0" * 100)
        assert "'w' lies at bytes 0 to 432 of 'data.bin', which has 100 bytes" in problem(path)

    def test_offset_beyond_the_end(self, tmp_path):
        assert "bytes 8 to 440" in problem(self.save(tmp_path, offset="8"))

    def test_wrong_length(self, tmp_path):
        assert "has 432 bytes, but its external data says 400" in problem(self.save(tmp_path, length="400"))

    @pytest.mark.parametrize("location", ["/etc/passwd", "../data.bin", "a/../../data.bin", "", "C:\\data.bin"])
    def test_locations_outside(self, tmp_path, location):
        (tmp_path / "inner").mkdir()
        (tmp_path / "data.bin").write_bytes(b"\0" * 432)
        message = problem(self.save(tmp_path / "inner", location=location))
        assert "'w'" in message and repr(location) in message

    @pytest.mark.parametrize("where", ["attribute", "function"])
    def test_locations_outside_in_other_places(self, tmp_path, where):
        """A Constant's tensor, in the graph or in the body of a function."""
        tensor = onnx.TensorProto(name="t", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="/etc/passwd")
        constant = node("Constant", [], ["k"], value=tensor)
        if where == "function":
            opsets = [helper.make_opsetid("", 17)]
            function = helper.make_function("my", "F", [], ["k"], [constant], opsets)
            call = node("F", [], ["k"], domain="my")
            proto = model(
                [call, node("Add", ["x", "k"], ["y"])], ["x:f[2]"], ["y:f"], domains=["my"], functions=[function]
            )
        else:
            proto = model([constant, node("Add", ["x", "k"], ["y"])], ["x:f[2]"], ["y:f"])
        (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
        assert "'/etc/passwd', is not a relative path" in problem(tmp_path / "m.onnx")

    def test_symbolic_link_outside(self, tmp_path):
        (tmp_path / "inner").mkdir()
        path = self.save(tmp_path / "inner")
        (tmp_path / "inner/data.bin").rename(tmp_path / "data.bin")
        (tmp_path / "inner/data.bin").symlink_to(tmp_path / "data.bin")
        assert "symbolic link" in problem(path)

    def test_symbolic_link_inside(self, tmp_path):
        path = self.save(tmp_path)
        (tmp_path / "data.bin").rename(tmp_path / "real.bin")
        (tmp_path / "data.bin").symlink_to("real.bin")
        assert load(path).constant(load(path).value("w")).shape == (4, 3, 3, 3)

    def test_hard_link(self, tmp_path):
        path = self.save(tmp_path)
        os.link(tmp_path / "data.bin", tmp_path / "other.bin")
        assert "hard links" in problem(path)

    def large(self, folder: Path) -> Path:
        """A model with a sparse file: 3 GB of zeros."""
        rows, columns = 768 * 1024, 1024
        tensor = onnx.TensorProto(name="w", data_type=1, dims=[columns, rows])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "data.bin", "offset": "0", "length": str(4 * rows * columns)}.items():
            tensor.external_data.add(key=key, value=value)
        proto = model([node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"])], ["x:f[N,1024]"], ["y:f"])
        proto.graph.initializer.append(tensor)
        (folder / "m.onnx").write_bytes(proto.SerializeToString())
        with open(folder / "data.bin", "wb") as file:
            file.truncate(4 * rows * columns)
        return folder / "m.onnx"

    def run(self, code: str, *arguments: object) -> list[str]:
        """The lines that this code prints in a process of its own, the last one its peak memory in MB."""
        # VmHWM is this program's own; ru_maxrss would start from the peak of the process that started it.
        code += "\nprint(next(int(x.split()[1]) // 1024 for x in open('/proc/self/status') if x.startswith('VmHWM')))\n"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    def test_three_gigabytes_are_not_read(self, tmp_path):
        code = (
            "import sys\n"
            "from fewbit.graph.load import load\n"
            "from fewbit.graph.ops import weight_of\n"
            "from fewbit.graph.save import is_large\n"
            "hub = load(sys.argv[1])\n"
            "assert is_large(hub.model)\n"
            "print(weight_of(hub.nodes()[0]).shape, hub.shape(hub.value('y')))\n"
            "hub.clone()\n"
            "print(hub.constant(hub.value('w'))[5, :3].tolist())"
        )
        shapes, numbers, megabytes = self.run(code, self.large(tmp_path))
        assert shapes == "(1024, 786432) ('N', 786432)"
        assert numbers == "[0.0, 0.0, 0.0]"
        assert int(megabytes) < 300

    @pytest.mark.slow
    def test_three_gigabytes_are_saved(self, tmp_path):
        code = (
            "import sys\n"
            "from fewbit.graph.load import load\n"
            "from fewbit.graph.save import save\n"
            "hub = load(sys.argv[1])\n"
            "save(hub.model, sys.argv[2], compact=True)\n"
            "again = load(sys.argv[2])\n"
            "print(again.graph.initializers['a'].const_value.nbytes)\n"
            "print(hub.fingerprint() == load(sys.argv[1]).fingerprint())"
        )
        size, same, megabytes = self.run(code, self.large(tmp_path), tmp_path / "out.onnx")
        assert int(size) == 3 << 30 == (tmp_path / "out.onnx.data").stat().st_size
        assert same == "True" and int(megabytes) < 300
        (tmp_path / "out.onnx.data").unlink()  # pytest keeps the folder for a while


class TestWeights:
    def test_nan_and_infinity(self):
        w = weights(4, 3, 3, 3)
        w[0, 0, 0, :2] = np.nan, np.inf
        proto = model([node("Conv", ["x", "w"], ["y"])], ["x:f[1,3,8,8]"], ["y:f"], {"w": w})
        with pytest.raises(ModelError, match="tensor 'w' holds 2 NaN or infinite of 108"):
            check_weights(load(proto))

    def test_names_limit_the_check(self):
        proto = model([node("Add", ["x", "k"], ["y"])], ["x:f[2]"], ["y:f"], {"k": np.float32([np.nan, 1])})
        check_weights(load(proto), ["other"])
        with pytest.raises(ModelError):
            check_weights(load(proto), ["k"])

    def test_an_infinite_mask_is_meant(self):
        mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
        proto = model(
            [node("Add", ["x", "m"], ["a"]), node("Softmax", ["a"], ["y"])], ["x:f[3,3]"], ["y:f"], {"m": mask}
        )
        check_weights(load(proto))

    def test_overflowing_sums_are_no_error(self):
        proto = model([node("Add", ["x", "k"], ["y"])], ["x:f[2]"], ["y:f"], {"k": np.full(2, 3e38, np.float32)})
        check_weights(load(proto))


class TestFindQuantization:
    def test_float(self):
        assert find_quantization(load(conv())) is None

    def test_qdq(self):
        proto = model(
            [
                node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
                node("DequantizeLinear", ["q", "s", "z"], ["y"]),
            ],
            ["x:f[3]"],
            ["y:f"],
            {"s": np.float32(1), "z": np.uint8(0)},
        )
        hub = load(proto)
        assert find_quantization(hub) == "it is quantized already: node 'quantize' is a QuantizeLinear"
        assert [n.op_type for n in hub.nodes()] == ["QuantizeLinear", "DequantizeLinear"]

    def test_quantized_weights_stay_compressed(self):
        """Folding DequantizeLinear would undo the quantization."""
        proto = model(
            [node("DequantizeLinear", ["q", "s"], ["w"]), node("MatMul", ["x", "w"], ["y"])],
            ["x:f[1,4]"],
            ["y:f"],
            {"q": np.ones((4, 4), np.int8), "s": np.float32(0.5)},
        )
        assert [n.op_type for n in load(proto).nodes()] == ["DequantizeLinear", "MatMul"]


class TestOpenSizes:
    def test_minus_one_and_question_marks_are_no_sizes(self):
        proto = conv()
        for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, (-1, None, "?", "?"), strict=True):
            if isinstance(size, int):
                dim.dim_value = size
            elif size is not None:
                dim.dim_param = size
        assert load(proto).inputs[0].shape == (None, 3, None, None)


class TestWeightless:
    def inside(self, op: str = "If") -> onnx.ModelProto:
        branch = graph([node("MatMul", ["x", "w"], ["a"])], [], ["a:f"], {"w": weights(4, 4)}, "branch")
        other = graph([node("Identity", ["x"], ["b"])], [], ["b:f"], name="other")
        return model(
            [node("If", ["c"], ["y"], "gate", then_branch=branch, else_branch=other)], ["x:f[1,4]", "c:b[]"], ["y:f"]
        )

    def test_weights_in_a_branch(self):
        told = why_weightless(load(self.inside()))
        assert told is not None and "inside of the If node 'gate'" in told and "the one branch that is used" in told

    def test_a_tree(self):
        tree = node("LinearRegressor", ["x"], ["y"], "fit", domain="ai.onnx.ml", coefficients=[1.0, 2.0])
        told = why_weightless(load(model([tree], ["x:f[N,2]"], ["y:f"], domains=["ai.onnx.ml"])))
        assert told is not None and "node 'fit' is a LinearRegressor" in told and "leave it in float" in told

    def test_weights(self):
        assert why_weightless(load(conv())) is None

    def test_maps_are_refused_by_what_made_them(self):
        proto = conv()
        kind = helper.make_sequence_type_proto(
            helper.make_map_type_proto(
                onnx.TensorProto.INT64, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
            )
        )
        proto.graph.output.append(helper.make_value_info("scores", kind))
        message = problem(proto)
        assert "'scores' is a dictionary" in message and "options={'zipmap': False}" in message
