from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema

from fewbit.errors import DataError, MissingExtraError, ModelError
from fewbit.runtimes.litert import LiteRtSession, open_session
from fewbit.runtimes.memory import peak_memory
from fewbit.runtimes.quiet import quiet_native
from fewbit.testing.runtime import RuntimeContract
from tests.absent import hide
from tests.tflite import TfliteBuilder, conv_net, images, memory_net


@pytest.mark.parametrize("model", ["float32", "int8"], indirect=True)
class TestLiteRt(RuntimeContract):
    """LiteRT keeps the contract of every runtime, on files of real numbers and of integers."""

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        return conv_net(tmp_path / "m.tflite", quantized=request.param == "int8")

    def open(self, model: Path) -> LiteRtSession:
        return open_session(model)

    def feed(self) -> dict[str, np.ndarray]:
        return {"x": images()}


@pytest.fixture
def float_net(tmp_path: Path) -> Path:
    return conv_net(tmp_path / "float.tflite")


@pytest.fixture
def int8_net(tmp_path: Path) -> Path:
    return conv_net(tmp_path / "int8.tflite", quantized=True)


def ids_net(path: Path) -> Path:
    """ids int32 (1, 4) → y, their sum with 1."""
    b = TfliteBuilder()
    b.tensor("ids", (1, 4), "int32")
    b.constant("one", np.ones((1, 4), np.int32))
    b.tensor("y", (1, 4), "int32")
    b.op("ADD", ["ids", "one"], ["y"], schema.AddOptionsT())
    return b.save(path, ["ids"], ["y"])


def test_integers_are_seen_as_real_numbers(float_net: Path, int8_net: Path) -> None:
    x = images(20)
    (real,), (quantized,) = (open_session(path).run({"x": x}) for path in (float_net, int8_net))
    assert quantized.dtype == np.float32 and quantized.shape == (20, 4)
    assert 10 * np.log10((real**2).sum() / ((real - quantized) ** 2).sum()) > 25
    assert open_session(int8_net).input_shapes() == {"x": (np.dtype(np.float32), [None, 8, 8, 3])}
    assert open_session(int8_net).output_shapes() == {"y": (np.dtype(np.float32), [None, 4])}


def test_integers_are_taken_and_given_as_they_are_stored(int8_net: Path) -> None:
    session = open_session(int8_net, stored=True)
    x = np.full((1, 8, 8, 3), 1.0, np.float32)  # the scale is 4 / 127: 31.75 steps
    (stored,) = session.run({"x": x})
    assert stored.dtype == np.int8
    assert np.array_equal(stored, session.run({"x": np.full((1, 8, 8, 3), 32, np.int8)})[0])
    assert np.allclose(open_session(int8_net).run({"x": x})[0], stored * np.float32(12 / 127))
    assert np.array_equal(session.run({"x": 100 * x})[0], session.run({"x": np.full_like(x, 127, np.int8)})[0])


@pytest.mark.parametrize("quantized", [False, True])
def test_inputs_take_the_shape_of_the_feed(tmp_path: Path, quantized: bool) -> None:
    session = open_session(conv_net(tmp_path / "m.tflite", quantized))
    x = images(5)
    (together,) = session.run({"x": x})
    alone = [session.run({"x": x[i : i + 1]})[0] for i in range(5)]
    assert np.allclose(together, np.concatenate(alone), atol=1e-5)


def test_a_feed_that_is_refused_leaves_the_session_usable(tmp_path: Path) -> None:
    b = TfliteBuilder()  # an input of any width, which only 4 fits
    b.tensor("x", (1, -1))
    b.constant("shape", np.array([2, 2], np.int32))
    b.tensor("y", (2, 2))
    b.op("RESHAPE", ["x", "shape"], ["y"], schema.ReshapeOptionsT())
    session = open_session(b.save(tmp_path / "m.tflite", ["x"], ["y"]))
    good = {"x": np.arange(4, dtype=np.float32)[None]}
    for _ in range(2):
        assert session.run(good)[0].tolist() == [[0, 1], [2, 3]]
        with pytest.raises(DataError, match=r"inputs of shape x \[1, 5\]") as caught:
            session.run({"x": np.zeros((1, 5), np.float32)})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), r"takes shape \[\?, 8, 8, 3\], given \[1, 3, 8, 8\]"),
        (np.zeros((8, 8, 3), np.float32), r"given \[8, 8, 3\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), "real numbers as float32, or the integers themselves as int8, given uint8"),
        (np.full((1, 8, 8, 3), np.nan, np.float32), "'x' is quantized and the sample holds NaN"),
    ],
)
def test_feeds_that_do_not_fit(int8_net: Path, array: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says):
        open_session(int8_net).run({"x": array})


def test_int64_where_the_numbers_fit_in_int32(tmp_path: Path) -> None:
    session = open_session(ids_net(tmp_path / "m.tflite"))
    assert session.input_shapes() == {"ids": (np.dtype(np.int32), [1, 4])}
    assert session.run({"ids": np.array([[1, 2, 3, 2**31 - 2]])})[0].tolist() == [[2, 3, 4, 2**31 - 1]]
    with pytest.raises(DataError, match="takes int32, and the sample holds 0 to 2147483648"):
        session.run({"ids": np.array([[0, 0, 0, 2**31]])})
    with pytest.raises(DataError, match="takes int32, given float32"):
        session.run({"ids": np.zeros((1, 4), np.float32)})


def test_names_are_those_of_the_signature(tmp_path: Path) -> None:
    b = TfliteBuilder()
    for name in ("a", "b", "y", "z"):
        b.tensor(name, (1, 2))
    b.op("SUB", ["a", "b"], ["y"], schema.SubOptionsT())
    b.op("ADD", ["a", "b"], ["z"], schema.AddOptionsT())
    signature = {"first": "b", "second": "a"}, {"sum": "z", "difference": "y"}
    session = open_session(b.save(tmp_path / "m.tflite", ["a", "b"], ["y", "z"], signature))
    assert session.inputs == ["second", "first"] and session.outputs == ["difference", "sum"]
    made = session.run({"first": np.ones((1, 2), np.float32), "second": np.full((1, 2), 5, np.float32)})
    assert [array.tolist() for array in made] == [[[4, 4]], [[6, 6]]]


def test_samples_are_independent(tmp_path: Path) -> None:
    session = open_session(memory_net(tmp_path / "m.tflite"))
    feed = {"x": np.array([[1, 2]], np.float32)}
    assert [session.run(feed)[0].item() for _ in range(3)] == [3, 3, 3]


def test_several_samples_of_a_file_that_takes_one(float_net: Path) -> None:
    session, samples = open_session(float_net), images(3)
    (together,) = session.run({"x": samples})
    single = [session.run({"x": samples[i : i + 1]})[0] for i in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(single))


def test_threads_and_kernels_give_the_same(float_net: Path) -> None:
    x = {"x": images(3)}
    (wanted,) = open_session(float_net).run(x)
    others = (
        open_session(float_net, threads=2),
        open_session(float_net, threads=0),
        open_session(float_net, kernels="builtin"),
        open_session(float_net, kernels="reference"),
        open_session(float_net.read_bytes()),
    )
    for session in others:
        assert np.allclose(session.run(x)[0], wanted, atol=1e-5)


def test_inner_values_are_real_numbers(int8_net: Path, float_net: Path) -> None:
    x, names = {"x": images()}, ["hidden", "conv.weight", "absent"]
    found = []
    for path in (float_net, int8_net):
        session = open_session(path, kernels="builtin", keep=True)
        session.run(x)
        found.append(session.values(names))
        assert list(found[-1]) == names[:2]
    for a, b in zip(found[0].values(), found[1].values(), strict=True):
        assert a.dtype == b.dtype == np.float32 and np.abs(a - b).max() < 0.05 * np.abs(a).max()
    assert found[0]["hidden"].min() == 0 < found[0]["hidden"].max()


def test_a_timed_run_is_one_on_stored_integers(int8_net: Path) -> None:
    (stored,) = open_session(int8_net, stored=True).run({"x": images()})
    run = open_session(int8_net).timed({"x": images()})
    assert np.array_equal(run()[0], stored) and np.array_equal(run()[0], stored)  # type: ignore[index]


@pytest.mark.parametrize("content", [b"", b"\x1c\0\0\0TFL3", "half"])
def test_files_that_do_not_load(float_net: Path, content: bytes | str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(float_net.read_bytes()[:500] if isinstance(content, str) else content)
    with pytest.raises(ModelError, match=r"LiteRT [\d.]+ cannot load .*wrong\.tflite: \w+") as caught:
        open_session(wrong)
    assert "\n" not in str(caught.value)


def test_names_that_are_no_text(float_net: Path) -> None:
    content = float_net.read_bytes()
    assert content.count(b"hidden") == content.count(b"x\0\0\0") == 1
    with pytest.raises(ModelError, match="cannot load the model: 'utf-8' codec"):
        open_session(content.replace(b"x\0\0\0", b"\xff\0\0\0"))


def test_an_operator_that_does_not_exist_here(tmp_path: Path) -> None:
    b = TfliteBuilder()
    b.tensor("x", (1, 2))
    b.tensor("y", (1, 2))
    b.op("CUSTOM", ["x"], ["y"])
    b.model.operatorCodes[0].customCode = "Mine"
    with pytest.raises(ModelError, match="Mine"):
        open_session(b.save(tmp_path / "m.tflite", ["x"], ["y"]))


def test_a_missing_package_yields_the_pip_command(monkeypatch: pytest.MonkeyPatch, float_net: Path) -> None:
    hide("ai_edge_litert", monkeypatch)
    with pytest.raises(MissingExtraError, match=r"pip install 'fewbit\[litert\]'"):
        open_session(float_net)


def test_loading_is_quiet(float_net: Path) -> None:
    code = (
        "import sys; from fewbit.runtimes.litert import open_session\n"
        "session = open_session(sys.argv[1])\n"
        "print('before', file=sys.stderr, end='')\n"
        "open_session(sys.argv[1])\n"
        "print(' after', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(float_net)], capture_output=True, text=True, check=True)
    assert done.stderr == "before after\n" and done.stdout == ""


def test_what_is_no_news_of_the_runtime_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_native():
        os.write(
            2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: no room\nINFO: of another library\n"
        )
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "ERROR: no room\nINFO: of another library\n"
    with pytest.raises(ValueError, match="inside"), quiet_native():
        os.write(2, b"said before it failed\n")
        raise ValueError("inside")
    assert capfd.readouterr().err == "said before it failed\n"


def test_memory_is_that_of_a_fresh_process(float_net: Path) -> None:
    ballast = np.ones(200_000_000 // 8)  # of this process, which must not count
    assert 1_000_000 < peak_memory(float_net, {"x": images()}) < 20_000_000 < ballast.nbytes
