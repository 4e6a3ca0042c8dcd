"""Modules that cannot be exported: one line with the user's file and line, what is wrong, and what to change."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fewbit
from fewbit.errors import DataError, InputError, ModelError, RecipeError
from tests.formats.torch.networks import Small, rows


class Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:  # here
            return x * 2
        return x


class Numpy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor(np.tanh(x.numpy()))  # here


class Count(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[: int(x.max().item())]  # here


class Bessel(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)  # here


class Sparse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to_sparse()  # here


class Lacking(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return {"a": x}["b"]  # here


class Counted(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return {"doubled": x * 2, "count": 3, "nothing": None}


def failure(kind: type[InputError], module: nn.Module, *example: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        fewbit.load(module, example_inputs=example, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and len(message) < 700
    assert caught.value.__cause__ is not None
    return message


def here(module: nn.Module) -> str:
    lines, first = inspect.getsourcelines(type(module))
    number = next(first + index for index, line in enumerate(lines) if line.endswith("# here\n"))
    return f"{__file__}:{number}"


@pytest.mark.parametrize(
    ("module", "reason", "remedy"),
    [
        (Branch(), "depends on the values of a tensor", "torch.where"),
        (Count(), "depends on the values of a tensor", "keep sizes fixed"),
        (Numpy(), "it leaves PyTorch for numpy", "compute it with torch functions"),
        (Bessel(), "this operator has no form in ONNX (operator prims.bessel_j0)", "write it with other operators"),
        (Sparse(), "this operator has no form in ONNX (operator aten._to_sparse)", "write it with other operators"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else "",
)
def test_what_cannot_be_exported(
    module: nn.Module, reason: str, remedy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    message = failure(ModelError, module, rows(2))
    assert message.startswith(f"{type(module).__name__} cannot be exported to ONNX at {here(module)}, in `")
    assert reason in message and remedy in message
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""


def test_a_module_that_fails_by_itself() -> None:
    message = failure(DataError, Lacking(), rows(2))
    assert f"Lacking itself fails on the example inputs at {here(Lacking())}, in" in message
    assert "KeyError: 'b'" in message


def test_example_inputs_of_wrong_sizes() -> None:
    message = failure(DataError, Small(), torch.ones(2, 5))
    assert "Small itself fails on the example inputs at " in message and "networks.py" in message
    assert "mat1 and mat2 shapes cannot be multiplied (2x5 and 4x6)" in message


def test_integers_for_layers_that_take_floats() -> None:
    """The exporter lets them through, and a runtime would refuse the graph."""
    message = failure(DataError, Small(), torch.ones(2, 4, dtype=torch.int64))
    assert "Small itself fails on the example inputs at " in message and "must have the same dtype" in message


def test_outputs_that_are_no_tensors() -> None:
    with pytest.raises(ModelError, match=r"^forward returns 3, which is no tensor.* returns the tensors$"):
        fewbit.load(Counted(), example_inputs=rows(2))


def test_example_inputs_that_are_not_those_of_forward() -> None:
    message = failure(DataError, Small(), rows(2), rows(2))
    assert message == (
        "the example inputs (2 positional) do not fit the model, too many positional arguments; "
        "forward takes (x: Tensor) -> Tensor"
    )
    with pytest.raises(
        DataError, match=r"the example inputs \(image\) do not fit the model, missing a required argument: 'x'"
    ):
        fewbit.load(Small(), example_inputs={"image": rows(2)})


def test_a_size_that_is_asked_for_and_fixed() -> None:
    class Four(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(2, 4) + 1

    message = failure(ModelError, Four(), rows(2), dynamic_shapes={"x": {0: "batch"}})
    assert "a dynamic axis is not dynamic in the model's code" in message and "--dynamic" in message


def test_options_for_other_models() -> None:
    from fewbit import demo

    with pytest.raises(
        RecipeError, match=r"example_inputs, factory: only for PyTorch models, and .*digits\.onnx is none"
    ):
        fewbit.load(demo.MODEL, example_inputs=rows(2), factory=Small)
