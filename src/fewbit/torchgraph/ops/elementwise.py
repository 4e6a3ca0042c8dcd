"""Functions of each number, of one tensor or of several that are broadcast."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.node import Node, Row, Value, number, plain


def _div(a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero, as in C."""
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def _mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """With `fmod` the sign is that of the dividend, else that of the divisor."""
    return torch.fmod(a, b) if node["fmod"] else torch.remainder(a, b)


def _pow(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """The result has the type of the base, whatever the exponent's is."""
    return torch.pow(a, b).to(a.dtype)


def _clip(node: Node, x: Tensor, low: Value = None, high: Value = None) -> Tensor:
    """Constant bounds are plain numbers, so that exports see a Relu6 as one; computed ones get gradients."""
    bounds: list[Any] = [b if b is None or isinstance(b, Tensor) else number(b) for b in (low, high)]
    if bounds == [None, None]:
        return x
    if any(isinstance(b, Tensor) for b in bounds):
        bounds = [b if b is None else torch.as_tensor(b, dtype=x.dtype, device=x.device) for b in bounds]
    return torch.clamp(x, *bounds).to(x.dtype)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, (slope * x).to(x.dtype), x)


def _selu(node: Node, x: Tensor) -> Tensor:
    return node["gamma"] * torch.where(x > 0, x, node["alpha"] * torch.expm1(x.clamp(max=0)))


def _shrink(node: Node, x: Tensor) -> Tensor:
    moved = torch.where(x > node["lambd"], x - node["bias"], torch.zeros_like(x))
    return torch.where(x < -node["lambd"], x + node["bias"], moved).to(x.dtype)


def _swish(node: Node, x: Tensor) -> Tensor:
    alpha = node.get("alpha", 1.0)
    return functional.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def _is_inf(node: Node, x: Tensor) -> Tensor:
    x = x if x.element_size() > 1 else x.float()
    found = torch.zeros_like(x, dtype=torch.bool)
    if node["detect_positive"]:
        found = found | torch.isposinf(x)
    if node["detect_negative"]:
        found = found | torch.isneginf(x)
    return found


def _is_nan(x: Tensor) -> Tensor:
    return torch.isnan(x if x.element_size() > 1 else x.float())


def _bit_shift(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.bitwise_left_shift(a, b) if node["direction"] == "LEFT" else torch.bitwise_right_shift(a, b)


def _mean(*inputs: Tensor) -> Tensor:
    return reduce(torch.add, inputs) / len(inputs)


def _fold(run: Callable[[Tensor, Tensor], Tensor]) -> Row:
    """A row of any number of inputs, combined from left to right."""
    return Row(lambda node, *inputs: reduce(run, inputs))


def _gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node["approximate"])


def _quick_gelu(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.702) * x)  # the default of the operator (ONNX Runtime's contrib ops)


def _fast_gelu(node: Node, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


ROWS: dict[str, Row] = {
    "Abs": plain(torch.abs),
    "Neg": plain(torch.neg),
    "Sign": plain(torch.sign),
    "Floor": plain(torch.floor),
    "Ceil": plain(torch.ceil),
    "Round": plain(torch.round),  # halves to the even number, as ONNX says
    "Reciprocal": plain(torch.reciprocal),
    "Sqrt": plain(torch.sqrt),
    "Exp": plain(torch.exp),
    "Log": plain(torch.log),
    "Sin": plain(torch.sin),
    "Cos": plain(torch.cos),
    "Tan": plain(torch.tan),
    "Asin": plain(torch.asin),
    "Acos": plain(torch.acos),
    "Atan": plain(torch.atan),
    "Sinh": plain(torch.sinh),
    "Cosh": plain(torch.cosh),
    "Tanh": plain(torch.tanh),
    "Asinh": plain(torch.asinh),
    "Acosh": plain(torch.acosh),
    "Atanh": plain(torch.atanh),
    "Erf": plain(torch.erf),
    "Sigmoid": plain(torch.sigmoid),
    "Relu": plain(torch.relu),
    "Softplus": plain(functional.softplus),
    "Softsign": plain(functional.softsign),
    "HardSwish": plain(functional.hardswish),
    "Mish": plain(functional.mish),
    "LeakyRelu": Row(lambda node, x: functional.leaky_relu(x, node["alpha"])),
    "ThresholdedRelu": Row(lambda node, x: torch.where(x > node["alpha"], x, torch.zeros_like(x))),
    "Elu": Row(lambda node, x: functional.elu(x, node["alpha"])),
    "Celu": Row(lambda node, x: functional.celu(x, node["alpha"])),
    "Selu": Row(_selu),
    "HardSigmoid": Row(lambda node, x: torch.clamp(node["alpha"] * x + node["beta"], 0, 1)),
    "Shrink": Row(_shrink),
    "Swish": Row(_swish),
    "Gelu": Row(_gelu),
    "com.microsoft.Gelu": plain(functional.gelu),
    "com.microsoft.BiasGelu": Row(lambda node, x, bias: functional.gelu(x + bias)),
    "com.microsoft.FastGelu": Row(_fast_gelu),
    "com.microsoft.QuickGelu": Row(_quick_gelu),
    "PRelu": plain(_prelu),
    "Clip": Row(_clip, either=(1, 2)),
    "Add": plain(torch.add),
    "Sub": plain(torch.sub),
    "Mul": plain(torch.mul),
    "Div": plain(_div),
    "Mod": Row(_mod),
    "Pow": Row(_pow),
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Sum": _fold(torch.add),
    "Mean": plain(_mean),
    "Where": plain(torch.where),
    "Equal": plain(torch.eq),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "And": plain(torch.logical_and),
    "Or": plain(torch.logical_or),
    "Xor": plain(torch.logical_xor),
    "Not": plain(torch.logical_not),
    "BitwiseAnd": plain(torch.bitwise_and),
    "BitwiseOr": plain(torch.bitwise_or),
    "BitwiseXor": plain(torch.bitwise_xor),
    "BitwiseNot": plain(torch.bitwise_not),
    "BitShift": Row(_bit_shift),
    "IsNaN": plain(_is_nan),
    "IsInf": Row(_is_inf),
}
