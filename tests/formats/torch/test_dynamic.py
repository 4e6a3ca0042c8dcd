"""Sizes that stay free, and what is said of those that do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fewbit
from fewbit.errors import RecipeError
from fewbit.formats.torch.texts import axes_from_texts, shapes_from_texts
from fewbit.graph.hub import Hub
from tests.formats.torch.networks import agree, rows


class Flat(nn.Module):
    """Its reshape fixes the batch to that of the example."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(self.batch, 2, 2) * 3


class Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a.sum() + b * 2


def notes(hub: Hub) -> list[str]:
    return [outcome.reason for outcome in hub.log if outcome.rule == "import"]


def test_a_batch_that_the_code_fixes_is_noted() -> None:
    hub = fewbit.load(Flat(3), example_inputs=rows(3))
    assert hub.inputs[0].shape == (3, 4)
    assert notes(hub) == ["the batch is fixed: the module's code fixes x: axis 0"]
    agree(hub, Flat(3), rows(3))


def test_a_batch_of_one_that_the_code_fixes_is_noted() -> None:
    hub = fewbit.load(Flat(1), example_inputs=rows(1))
    assert hub.inputs[0].shape == (1, 4)
    (note,) = notes(hub)
    assert note.startswith(
        "the sizes of the inputs are fixed to those of the example: a batch of any size cannot be exp"
    )
    agree(hub, Flat(1), rows(1))


def test_inputs_that_are_no_batch_are_noted() -> None:
    hub = fewbit.load(Sum(), example_inputs=(torch.ones(2, 3), torch.ones(4)))
    assert [i.shape for i in hub.inputs] == [(2, 3), (4,)]
    assert notes(hub) == [
        "the sizes of the inputs are fixed to those of the example: the first axes of the inputs [2, 3], [4] are not one batch"
    ]


def test_sizes_that_are_asked_for() -> None:
    example = (torch.ones(2, 3), torch.ones(1))
    hub = fewbit.load(Sum(), example_inputs=example, dynamic_shapes={"b": {0: "length"}})
    assert [i.shape for i in hub.inputs] == [(2, 3), ("length",)] and notes(hub) == []
    agree(hub, Sum(), torch.ones(2, 3), torch.ones(7))
    own = fewbit.load(Sum(), example_inputs=example, dynamic_shapes=(None, {0: torch.export.Dim("free", min=2)}))
    assert [i.shape for i in own.inputs] == [(2, 3), ("free",)]


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"c": {0: "n"}}, r"dynamic_shapes names the input 'c'; the example has a, b"),
        ({"a": {2: "n"}}, r"dynamic_shapes names axis 2 of 'a', which has axes 0 to 1"),
        ({"a": {0: "my size"}}, r"must be an identifier, such as batch, not 'my size'"),
    ],
)
def test_sizes_that_cannot_be(shapes: Any, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        fewbit.load(Sum(), example_inputs=(torch.ones(2, 3), torch.ones(4)), dynamic_shapes=shapes)


def test_the_words_of_the_command() -> None:
    arrays = shapes_from_texts(["image=1x3x8x8", "ids=2x5:int64", "flag=:bool"])
    assert {name: (a.shape, str(a.dtype)) for name, a in arrays.items()} == {
        "image": ((1, 3, 8, 8), "float32"),
        "ids": ((2, 5), "int64"),
        "flag": ((), "bool"),
    }
    assert not arrays["ids"].any() and arrays["image"].std() > 0.5
    assert axes_from_texts(["ids:0=batch", "ids:1=length", "m:0=batch"]) == {
        "ids": {0: "batch", 1: "length"},
        "m": {0: "batch"},
    }
    with pytest.raises(RecipeError, match=r"input shape 'image' must have the form name=1x3x224x224"):
        shapes_from_texts(["image"])
    with pytest.raises(
        RecipeError, match=r"input shape 'x=1:float' : dtype float does not exist|dtype float does not exist"
    ):
        shapes_from_texts(["x=1:float"])
    with pytest.raises(RecipeError, match=r"dynamic axis 'ids=batch' must have the form input:0=batch"):
        axes_from_texts(["ids=batch"])
