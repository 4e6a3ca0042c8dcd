from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")

from fewbit.errors import DataError, ModelError
from fewbit.formats.executorch.door import write_executorch
from fewbit.graph.load import load
from fewbit.runtimes import executorch
from fewbit.runtimes.executorch import ExecuTorchSession, open_session
from fewbit.runtimes.executorch_ops import executed_ops
from fewbit.runtimes.table import EXECUTORCH, open_model, runtime_of
from fewbit.testing.runtime import RuntimeContract
from tests.formats.litert.write.quantizing import quantized
from tests.graph.build import model, node


def small() -> onnx.ModelProto:
    """A convolution, a dense layer, and a second input of int64 that is given back beside its length."""
    random = np.random.default_rng(0)
    nodes = [
        node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "v"], ["scores"]),
        node("Add", ["ids", "one"], ["next"]),
    ]
    constants = {
        "w": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": random.normal(size=4).astype(np.float32),
        "v": random.normal(size=(4, 5)).astype(np.float32),
        "one": np.array([1]),
    }
    return model(nodes, ["image:f[1,3,8,8]", "ids:i[2]"], ["scores:f", "next:i"], constants, opset=21, ir_version=10)


def feed() -> dict[str, np.ndarray]:
    image = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    return {"image": image, "ids": np.array([3, 4])}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same network in float and in int8."""
    folder = tmp_path_factory.mktemp("executorch")
    paths = {name: folder / f"{name}.pte" for name in ("float32", "int8")}
    paths["float32"].write_bytes(write_executorch(load(small())))
    paths["int8"].write_bytes(write_executorch(load(quantized(small(), feed()))))
    return paths


@pytest.mark.parametrize("model", ["float32", "int8"], indirect=True)
class TestExecuTorch(RuntimeContract):
    """ExecuTorch keeps the contract of every runtime."""

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest, files: dict[str, Path]) -> Path:
        return files[request.param]

    def open(self, model: Path) -> ExecuTorchSession:
        return open_session(model)

    def feed(self) -> dict[str, np.ndarray]:
        return feed()


def test_ends_have_the_names_of_the_model(files: dict[str, Path]) -> None:
    session = open_model(files["int8"])
    assert list(session.inputs) == ["image", "ids"] and list(session.outputs) == ["scores", "next"]
    assert session.input_shapes() == {"image": (np.dtype(np.float32), [1, 3, 8, 8]), "ids": (np.dtype(np.int64), [2])}
    assert session.output_shapes() == {"scores": (np.dtype(np.float32), [1, 5]), "next": (np.dtype(np.int64), [2])}
    scores, following = session.run(feed())
    assert scores.shape == (1, 5) and following.tolist() == [4, 5]


def test_or_names_by_position(files: dict[str, Path], tmp_path: Path) -> None:
    data = files["float32"].read_bytes()
    assert data.count(b"fewbit_ends") == 1
    (tmp_path / "m.pte").write_bytes(data.replace(b"fewbit_ends", b"other_names"))
    session = open_session(tmp_path / "m.pte")
    assert session.inputs == ["input_0", "input_1"] and session.outputs == ["output_0", "output_1"]
    made = session.run({"input_0": feed()["image"], "input_1": feed()["ids"]})
    assert np.array_equal(made[0], open_session(files["float32"]).run(feed())[0])


def test_what_executes(files: dict[str, Path]) -> None:
    found = EXECUTORCH.execution(files["int8"])
    assert found.partitions == 1
    assert found.kernels.integer == {"Conv2d": 1, "GlobalAvgPooling2d": 1, "FullyConnected": 1}
    assert not found.kernels.float_heavy
    places = {(op.op, op.where): op.dtypes for op in found.ops}
    assert places["Conv2d", "XNNPACK"] == "int8 · int8"
    assert places["aten::add.out", "ExecuTorch"] == "int64"
    assert executed_ops(files["float32"].read_bytes()).kernels.float_heavy == {"Conv": 1, "Gemm": 1}
    assert runtime_of(files["int8"]) is EXECUTORCH and EXECUTORCH.version().count(".") == 2


def test_feeds_that_do_not_fit(files: dict[str, Path]) -> None:
    session = open_session(files["float32"])
    given = feed()
    with pytest.raises(DataError, match=r"'image': the model takes shape \[1, 3, 8, 8\], given \[1, 3, 8, 9\]"):
        session.run({**given, "image": np.zeros((1, 3, 8, 9), np.float32)})
    with pytest.raises(DataError, match="'ids': the model takes int64, given float32"):
        session.run({**given, "ids": np.zeros(2, np.float32)})
    with pytest.raises(DataError, match="'ids': the model takes int64, and the sample holds 0 to 18446744073709551615"):
        session.run({**given, "ids": np.array([0, 2**64 - 1], np.uint64)})
    before = session.run(given)
    image = np.asfortranarray(given["image"].astype(np.float64))
    image.flags.writeable = False
    again = session.run({"image": image, "ids": given["ids"].astype(np.int32)})
    assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))
    session.run({**given, "image": given["image"] * 2})
    assert np.array_equal(before[0], again[0])  # outputs are the caller's


def test_sessions_with_other_numbers_of_threads_take_turns(files: dict[str, Path]) -> None:
    one, two = (open_session(files["float32"], threads=threads) for threads in (1, 2))
    made = [session.run(feed())[0] for session in (one, two, one, two, two)]
    assert all(np.array_equal(made[0], other) for other in made)


@pytest.mark.parametrize("size", [8, 60, 900, -100])
def test_a_truncated_file(files: dict[str, Path], tmp_path: Path, size: int) -> None:
    (tmp_path / "m.pte").write_bytes(files["int8"].read_bytes()[:size])
    with pytest.raises(ModelError, match=r"m\.pte") as caught:
        open_session(tmp_path / "m.pte")
    assert "\n" not in str(caught.value)


def test_a_file_that_aborts_the_library(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process of its own does not survive is not loaded here."""
    data = files["int8"].read_bytes() + b"\0"
    (tmp_path / "m.pte").write_bytes(data)
    monkeypatch.setattr(executorch, "_CHILD", "import os; os.abort()")
    with pytest.raises(ModelError, match=r"m\.pte stops ExecuTorch .*exit code -6.*damaged"):
        open_session(tmp_path / "m.pte")
    assert open_session(data, probe=False).inputs == ["image", "ids"]


def test_random_damage_is_an_input_error(files: dict[str, Path]) -> None:
    """The reader of the file raises nothing else, whatever a byte becomes."""
    data = files["int8"].read_bytes()
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        damaged[random.integers(8, len(data))] ^= random.integers(1, 256)
        try:
            executed_ops(bytes(damaged))
        except ModelError:
            refused += 1
    assert refused > 10


def test_nothing_is_said_while_it_loads(files: dict[str, Path]) -> None:
    code = "import sys; from fewbit.runtimes.executorch import open_session; s = open_session(sys.argv[1]); s.run(s.zeros())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(files["int8"])], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == done.stderr == ""
