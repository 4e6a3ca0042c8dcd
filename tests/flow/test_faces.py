"""Models of different formats behind one face, on sessions that only pretend to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from fewbit.errors import DataError, ModelError
from fewbit.flow.faces import aligned, in_layout_of, own_feed, samples_for_all
from fewbit.runtimes.session import Ends, Feed, Outputs

Shape = Sequence[int | str | None]
FLOAT = np.dtype(np.float32)


class Pretended:
    """A session whose outputs are its inputs, in the order of their names in the file."""

    def __init__(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        self._inputs, self._outputs = _ends(inputs), _ends(outputs)
        self.inputs, self.outputs = list(self._inputs), list(self._outputs)

    def run(self, feed: Feed) -> Outputs:
        return [feed[name] for name in self.inputs][: len(self.outputs)]

    def timed(self, feed: Feed) -> Callable[[], object]:
        return lambda: self.run(feed)

    def input_shapes(self) -> Ends:
        return self._inputs

    def output_shapes(self) -> Ends:
        return self._outputs


def _ends(ends: dict[str, Any]) -> Ends:
    return {n: (np.dtype(e[0]), list(e[1])) if isinstance(e, tuple) else (FLOAT, list(e)) for n, e in ends.items()}


def test_models_with_the_same_ends_are_left_alone() -> None:
    a, b = (Pretended({"x": ["N", 3, 8, 8]}, {"y": [None, 4]}) for _ in range(2))
    assert aligned(a, b, "b") == (b, [])


def test_names_and_layouts_that_differ() -> None:
    onnx = Pretended({"image": ["N", 3, 8, 6]}, {"map": ["N", 2, 8, 6]})
    lite = Pretended({"input": [None, 8, 6, 3]}, {"Identity": [None, 8, 6, 2]})
    faced, notes = aligned(onnx, lite, "the model")
    assert notes == [
        "input image is input and has its channels last in the model",
        "output map is Identity and has its channels last in the model",
    ]
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 6)).astype(np.float32)
    assert list(faced.inputs) == ["image"] and list(faced.outputs) == ["map"]
    assert np.array_equal(own_feed(faced, {"image": x})["input"], x.transpose(0, 2, 3, 1))
    assert np.array_equal(faced.run({"image": x, "extra": x})[0], x)
    with pytest.raises(DataError, match="'image' is missing"):
        faced.run({})
    back, notes = aligned(lite, onnx, "the baseline")
    assert notes[0] == "input input is image and has its channels first in the baseline"
    assert np.array_equal(back.run({"input": x.transpose(0, 2, 3, 1)})[0], x.transpose(0, 2, 3, 1))


def test_outputs_do_not_matter_for_time() -> None:
    a, b = Pretended({"x": [1, 4]}, {"y": [1, 4]}), Pretended({"z": [1, 4]}, {"p": [1, 4], "q": [1, 2, 3]})
    with pytest.raises(ModelError, match="other outputs"):
        aligned(a, b, "b")
    faced, notes = aligned(a, b, "b", outputs=False)
    assert notes == ["input x is z in b"] and faced.outputs == ["p", "q"]


def test_equal_names_in_another_order() -> None:
    a = Pretended({"ids": (np.int64, [1, 8]), "mask": (np.int64, [1, 8])}, {"p": [1, 2], "q": [1, 2]})
    b = Pretended({"mask": (np.int32, [1, 8]), "ids": (np.int32, [1, 8])}, {"q": [1, 2], "p": [1, 2]})
    faced, notes = aligned(a, b, "b")
    assert notes == []
    feed = {"ids": np.zeros((1, 8)), "mask": np.ones((1, 8))}
    assert [array.max() for array in faced.run(feed)] == [0, 1]  # p is b's second output, its second input


def test_by_shape_where_positions_do_not_fit() -> None:
    a = Pretended({"a": ["N", 4], "b": ["N", 9]}, {"y": [1]})
    b = Pretended({"first": [1, 9], "second": [1, 4]}, {"z": [1]})
    faced, _ = aligned(a, b, "b")
    feed = {"a": np.zeros((1, 4)), "b": np.zeros((1, 9))}
    assert {name: array.shape for name, array in own_feed(faced, feed).items()} == {"first": (1, 9), "second": (1, 4)}


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ({"x": [1, 5]}, {"y": [1, 2]}, r"b has other inputs: x float32 \[1, 5\], where x float32 \[1, 4\] is wanted"),
        ({"x": (np.int64, [1, 4])}, {"y": [1, 2]}, r"other inputs: x int64 \[1, 4\]"),
        ({"x": [1, 4], "state": [1, 4]}, {"y": [1, 2]}, "other inputs: x float32.*, state float32"),
        ({"x": [1, 4]}, {"y": [1, 2], "z": [1, 2]}, "other outputs"),
        ({"x": [1, 4]}, {"z": [1, 2, 1]}, r"other outputs: z float32 \[1, 2, 1\]"),
    ],
)
def test_ends_that_do_not_match(inputs: dict[str, Any], outputs: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        aligned(Pretended({"x": [1, 4]}, {"y": [1, 2]}), Pretended(inputs, outputs), "b")


def test_the_order_in_which_most_sizes_are_equal() -> None:
    """Open sizes fit anything: the channels tell."""
    faced, notes = aligned(
        Pretended({"x": ["N", 3, "H", "W"]}, {"y": [1]}), Pretended({"x": [None, None, None, 3]}, {"y": [1]}), "b"
    )
    assert notes == ["input x has its channels last in b"]
    assert own_feed(faced, {"x": np.zeros((1, 3, 4, 5))})["x"].shape == (1, 4, 5, 3)


def test_samples_choose_the_face() -> None:
    onnx = Pretended({"image": ["N", 3, 8, 6]}, {"y": ["N", 3, 8, 6]})
    lite = Pretended({"input": [None, 8, 6, 3]}, {"z": [None, 8, 6, 3]})
    first = np.zeros((1, 3, 8, 6), np.float32)
    for name, given in (("image", first), ("input", first.transpose(0, 2, 3, 1))):
        source, sessions, notes = samples_for_all(
            {"lite": lite, "onnx": onnx}, [{name: given}], limit=None, preprocess=None, purpose="a test"
        )
        feed = next(source.feeds())
        assert [s.run(feed)[0].shape for s in sessions] == [given.shape] * 2
        assert len(notes) == 2


def test_samples_in_a_layout_of_no_model() -> None:
    lite = Pretended({"input:0": [None, 8, 6, 3]}, {"z": [None, 4]})
    given = np.random.default_rng(0).standard_normal((1, 3, 8, 6)).astype(np.float32)
    source, (session,), notes = samples_for_all(
        {"the model": lite}, [{"image": given}], limit=None, preprocess=None, purpose="a test"
    )
    assert notes == ["samples: input image is input:0 and has its channels last in the model"]
    assert np.array_equal(session.run(next(source.feeds()))[0], given.transpose(0, 2, 3, 1))
    with pytest.raises(DataError, match="lacks input 'input:0'"):
        samples_for_all({"m": lite}, [{"image": given[:, :2]}], limit=None, preprocess=None, purpose="a test")


def test_arrays_in_the_layout_of_others() -> None:
    first = np.zeros((1, 3, 8, 6))
    assert in_layout_of(first, first) is first
    for given in (first.transpose(0, 2, 3, 1), first.transpose(0, 3, 1, 2).transpose(0, 2, 3, 1)):
        found = in_layout_of(first, given)
        assert found is not None and found.shape == first.shape
    assert in_layout_of(first, np.zeros((1, 2, 8, 6))) is None and in_layout_of(first, np.zeros(3)) is None
