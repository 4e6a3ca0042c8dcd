"""How wide the integer weights of ONNX Runtime's kernels may be on this machine, and how it rounds: single kernels against
exact integers.

Without 8-bit dot products an x86 CPU adds pairs of u8·s8 products in 16 bits, where 2 · 255 · 127 saturates and 255 · 128
does not (`fewbit.core.weights.pairs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.weights.rows import rows_to_weight
from fewbit.runtimes.onnxruntime import open_session
from fewbit.spec import Rounding

_HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
_WIDTHS = (8, 7, 6, 5, 4)
_TOP = 127  # of narrow 8-bit weights

Weights = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.int8]]
"""Makes weights (outputs, K), where K runs in the order in which the kernel sums."""


def exact_bits(kernel: str) -> int:
    """The widest weights, in bits, with which a kernel of `KERNELS` loses nothing on the largest u8·s8 products (0: none).

    Weights are narrow (-127..127 for 8 bits), as all plans have them.
    """
    return next((bits for bits in _WIDTHS if KERNELS[kernel](of_width(bits))), 0)


def exact_in_pairs(kernel: str, limit: int) -> bool:
    """Whether a kernel of `KERNELS` loses nothing on the largest u8·s8 products where the 8-bit weights of one sign of the
    inputs 2j and 2j + 1 add up to `limit`."""
    return KERNELS[kernel](in_pairs(limit))


def of_width(bits: int) -> Weights:
    """Mostly at one end of the range or the other."""
    top = (1 << (bits - 1)) - 1

    def weights(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.int8]:
        ends = np.where(random.random(shape) < 0.9, top, -top)
        return np.where(random.random(shape) < 0.8, ends, random.integers(-top, top + 1, shape)).astype(np.int8)

    return weights


def in_pairs(limit: int) -> Weights:
    """Pairs of one sign that add up to the limit, the same sign in most of an output; every tenth is (127, -127) instead."""

    def weights(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.int8]:
        outputs, inputs = shape
        pairs = (outputs, -(-inputs // 2))
        first = random.integers(max(limit - _TOP, 0), min(limit, _TOP) + 1, pairs)
        rows = np.stack([first, limit - first], -1) * np.where(random.random((outputs, 1, 1)) < 0.5, 1, -1)
        rows[random.random(pairs) < 0.1] = _TOP, -_TOP
        return rows.reshape(outputs, -1)[:, :inputs].astype(np.int8)

    return weights


def rounding() -> Rounding | None:
    """How QuantizeLinear rounds ties; None if neither way."""
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    text = f"{_HEADER} g (float[6] x, float s, int8 z) => (int8[6] y) {{ y = QuantizeLinear(x, s, z) }}"
    (given,) = _run(text, x=x, s=np.float32(1), z=np.int8(0))
    if np.array_equal(given, [0, 2, 2, 0, -2, -2]):
        return "half_even"
    return "half_away" if np.array_equal(given, [1, 2, 3, -1, -2, -3]) else None


def _convolution(weights: Weights, channels: int, size: int, group: int = 1) -> bool:
    """QLinearConv of 32 outputs, written to u8 in steps of a power of two."""
    random = np.random.default_rng(0)
    x = _activations(random, (1, channels, 6, 6))
    shape = (32, channels // group, size, size)
    w = rows_to_weight(weights(random, (32, channels // group * size * size)), shape, 0, 1)
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(np.int64), (size, size), axis=(1, 2))
    if group == 1:
        exact = np.einsum("chwij,ocij->ohw", windows, w.astype(np.int64))
    else:
        exact = np.einsum("chwij,cij->chw", windows, w[:, 0].astype(np.int64))
    step = 2.0 ** np.ceil(np.log2(np.abs(exact).max() / 127))
    places = 7 - size
    text = f"""{_HEADER} g (uint8[1,{channels},6,6] x, float s, uint8 z, int8[{",".join(map(str, shape))}] w, int8 wz,
        float ys, uint8 yz) => (uint8[1,32,{places},{places}] y) {{
        y = QLinearConv<group={group}>(x, s, z, w, s, wz, ys, yz) }}"""
    one: dict[str, Any] = {
        "s": np.float32(1),
        "z": np.uint8(0),
        "wz": np.int8(0),
        "ys": np.float32(step),
        "yz": np.uint8(128),
    }
    (given,) = _run(text, {"w": w, **one}, x=x)
    return bool(np.array_equal(given[0], np.rint(exact / step) + 128))


def _product(weights: Weights, text: str) -> bool:
    """A product of matrices with 64 terms, whose sums fit exactly in what the kernel gives."""
    random = np.random.default_rng(0)
    x, w = _activations(random, (8, 64)), np.ascontiguousarray(weights(random, (32, 64)).T)
    one = {"s": np.float32(1), "z": np.uint8(0), "wz": np.int8(0)}
    (given,) = _run(f"{_HEADER} g (uint8[8,64] x, {text}", {"w": w, **one}, x=x)
    return bool(np.array_equal(given, x.astype(np.int64) @ w.astype(np.int64)))


_WEIGHTS = "int8[64,32] w, float s, uint8 z, int8 wz)"

DEPTHWISE = "QLinearConv depthwise"
"""The kernel of `KERNELS` that adds no pairs."""

KERNELS: dict[str, Callable[[Weights], bool]] = {
    "QLinearConv 1×1": lambda weights: _convolution(weights, 32, 1),
    # An odd number of channels: pairs go on from one kernel position to the next.
    "QLinearConv 3×3": lambda weights: _convolution(weights, 31, 3),
    DEPTHWISE: lambda weights: _convolution(weights, 32, 3, group=32),
    "QGemm": lambda weights: _product(
        weights, f"{_WEIGHTS} => (float[8,32] y) {{ y = com.microsoft.QGemm(x, s, z, w, s, wz) }}"
    ),
    "MatMulInteger": lambda weights: _product(
        weights, f"{_WEIGHTS} => (int32[8,32] y) {{ y = MatMulInteger(x, w, z, wz) }}"
    ),
    "MatMulIntegerToFloat": lambda weights: _product(
        weights, f"{_WEIGHTS} => (float[8,32] y) {{ y = com.microsoft.MatMulIntegerToFloat(x, w, s, s, z, wz) }}"
    ),
}
"""Kernel → whether it is exact with such weights."""


def _activations(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Nearly all at the top of uint8, the others near it."""
    return np.where(random.random(shape) < 0.9, 255, random.integers(200, 256, shape)).astype(np.uint8)


def _run(text: str, constants: Mapping[str, Any] | None = None, **feed: Any) -> list[NDArray[Any]]:
    """The outputs of a model in ONNX's text form; constants among its inputs become initializers, as kernels want them."""
    import onnx

    model = onnx.parser.parse_model(text)
    for name, value in (constants or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    kept = [i for i in model.graph.input if i.name not in (constants or {})]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    session = open_session(model.SerializeToString())
    return session.run({name: np.asarray(value) for name, value in feed.items()})
