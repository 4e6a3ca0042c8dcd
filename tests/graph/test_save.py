from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fewbit.errors import OutputError
from fewbit.graph.load import load
from fewbit.graph.save import is_large, save, to_bytes

from .build import assert_same, graph, model, node, run, weights


@pytest.fixture
def proto() -> onnx.ModelProto:
    """Two outputs, a subgraph that captures an inner value, a name that a short one could collide with."""
    branches = [graph([node(op, ["inner/value"], ["t"])], [], ["t:f"]) for op in ("Relu", "Neg")]
    return model(
        [
            node("MatMul", ["x", "some/long/weight"], ["inner/value"], name="layer/one", doc_string="the first"),
            node("If", ["c"], ["b"], then_branch=branches[0], else_branch=branches[1], name="layer/two"),
            node("Neg", ["inner/value"], ["other output"]),
        ],
        ["x:f[N,4]", "c:b[]"],
        ["b:f[N,200]", "other output:f[N,200]"],
        {"some/long/weight": weights(4, 200)},
    )


@pytest.fixture
def feeds() -> list[dict[str, np.ndarray]]:
    return [{"x": weights(3, 4), "c": np.array(flag)} for flag in (True, False)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_plain(proto, feeds, tmp_path):
    hub = load(proto)
    before = hub.fingerprint()
    renaming = save(hub.model, tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx"] and renaming.values == {} == renaming.nodes
    assert load(tmp_path / "m.onnx").fingerprint() == before == hub.fingerprint()
    assert oct((tmp_path / "m.onnx").stat().st_mode & 0o777) == oct(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_compact(proto, feeds, tmp_path):
    proto.metadata_props.add(key="names", value="cat,dog")
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("inner/value", 1, ["N", 200]))
    hub = load(proto)
    before = hub.fingerprint()
    renaming = save(hub.model, tmp_path / "m.onnx", compact=True)
    assert hub.fingerprint() == before
    small = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(small)
    assert [v.name for v in small.graph.input] == ["x", "c"]
    assert [v.name for v in small.graph.output] == ["b", "other output"]
    # b and c are taken by the model's ends.
    assert renaming.values == {"some/long/weight": "a", "inner/value": "d", "t": "e", "t_1": "f"}
    assert renaming.nodes["layer/one"] == "a" and len(renaming.nodes) == 5
    assert len(small.graph.value_info) == 0 and small.graph.node[0].doc_string == ""
    assert small.metadata_props[0].value == "cat,dog"
    for feed in feeds:
        for a, b in zip(run(proto, feed), run(small, feed), strict=True):
            assert_same(a, b, 0)


def test_compact_twice_gives_the_same_bytes(proto, tmp_path):
    save(load(proto).model, tmp_path / "a.onnx", compact=True)
    save(load(tmp_path / "a.onnx").model, tmp_path / "b.onnx", compact=True)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_short_names_are_unique():
    from itertools import islice

    from fewbit.graph.compact import _short_names

    names = list(islice(_short_names(), 10000))
    assert names[:2] == ["a", "b"] and names[51:54] == ["Z", "aa", "ab"]
    assert len(set(names)) == 10000 and max(map(len, names)) == 3


@pytest.mark.parametrize("compact", [False, True])
def test_external_data(proto, feeds, tmp_path, compact):
    hub = load(proto)
    save(hub.model, tmp_path / "m.onnx", compact=compact, external_above=100)
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx.data").stat().st_size == 4 * 200 * 4
    again = load(tmp_path / "m.onnx")
    assert sum(isinstance(v.const_value, ir.ExternalTensor) for v in again.graph.initializers.values()) == 1
    for feed in feeds:
        for a, b in zip(run(proto, feed), run(again, feed), strict=True):
            assert_same(a, b, 0)


def test_external_data_over_itself(proto, tmp_path):
    """Saving to where the weights are mapped from must not read what it overwrites."""
    path = tmp_path / "m.onnx"
    save(load(proto).model, path, external_above=100)
    hub = load(path)
    before = hub.fingerprint()
    extra = ir.Value(name="a first weight", const_value=ir.Tensor(weights(2000)), type=ir.TensorType(ir.DataType.FLOAT))
    weight = hub.graph.initializers.pop("some/long/weight")
    hub.graph.initializers["a first weight"] = extra  # so the weight moves to another offset
    hub.graph.initializers["some/long/weight"] = weight
    for _ in range(2):
        save(hub.model, path, external_above=100)
        again = load(path, normalize=False)
        del again.graph.initializers["a first weight"]
        assert again.fingerprint() == before


def test_external_data_comes_back_into_the_file(proto, tmp_path):
    save(load(proto).model, tmp_path / "m.onnx", external_above=100)
    hub = load(tmp_path / "m.onnx")
    save(hub.model, tmp_path / "one.onnx")
    assert onnx.load(tmp_path / "one.onnx", load_external_data=False).graph.initializer[0].HasField("raw_data")
    assert load(tmp_path / "one.onnx").fingerprint() == hub.fingerprint()
    assert onnx.load_from_string(to_bytes(hub.model)).graph.initializer[0].HasField("raw_data")
    assert isinstance(hub.value("some/long/weight").const_value, ir.ExternalTensor)


def test_is_large(proto):
    assert not is_large(load(proto).model)


class TestFailures:
    def problem(self, model: ir.Model, path: Path | str) -> str:
        with pytest.raises(OutputError) as caught:
            save(model, path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_no_such_folder(self, proto, tmp_path):
        assert "the folder" in self.problem(load(proto).model, tmp_path / "no" / "m.onnx")

    def test_a_folder(self, proto, tmp_path):
        assert "is a folder" in self.problem(load(proto).model, tmp_path)

    def test_a_device_is_not_replaced(self, proto):
        assert "not a regular file" in self.problem(load(proto).model, "/dev/full")
        assert not Path("/dev/full").is_file()

    def test_read_only_folder(self, proto, tmp_path):
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        tmp_path.chmod(0o500)
        assert "Permission denied" in self.problem(load(proto).model, tmp_path / "m.onnx")

    def test_a_link_is_followed(self, proto, tmp_path):
        (tmp_path / "real.onnx").write_bytes(b"old")
        (tmp_path / "m.onnx").symlink_to("real.onnx")
        save(load(proto).model, tmp_path / "m.onnx")
        assert (tmp_path / "m.onnx").is_symlink() and (tmp_path / "real.onnx").stat().st_size > 3

    @pytest.mark.parametrize("external_above", [10, 10**9])
    def test_full_disk(self, proto, tmp_path, external_above):
        """A limit on the size of files stands in for a full disk: write fails in the middle."""
        (tmp_path / "m.onnx").write_bytes(b"old")
        (tmp_path / "source.onnx").write_bytes(proto.SerializeToString())
        code = (
            "import resource, sys\n"
            "from fewbit.errors import OutputError\n"
            "from fewbit.graph.load import load\n"
            "from fewbit.graph.save import save\n"
            "hub = load(sys.argv[1])\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
            "try:\n"
            "    save(hub.model, sys.argv[2], external_above=int(sys.argv[3]))\n"
            "except OutputError as error:\n"
            "    print(error)\n"
        )
        arguments = [sys.executable, "-c", code, tmp_path / "source.onnx", tmp_path / "m.onnx", str(external_above)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert "cannot be written: File too large" in done.stdout
        assert files(tmp_path) == ["m.onnx", "source.onnx"]
        assert (tmp_path / "m.onnx").read_bytes() == b"old"

    def test_full_tmpfs(self, proto, tmp_path):
        """A really full disk, where root may mount one."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("cannot mount a tmpfs here")
        try:
            (disk / "other").write_bytes(bytes(4096))
            assert "No space left" in self.problem(load(proto).model, disk / "m.onnx")
            assert files(disk) == ["other"]
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def test_an_interrupt_leaves_nothing(self, proto, tmp_path, monkeypatch):
        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(load(proto).model, tmp_path / "m.onnx")
        assert files(tmp_path) == []
