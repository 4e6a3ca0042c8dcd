"""Recurrent layers, and what lies between integers and floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.formats.litert.build import Tflite
from tests.formats.litert.cases.table import IMAGE, add_case, case


def _variable(t: Tflite, *shape: int) -> int:
    index = t.tensor(shape)
    t.graph.tensors[index].isVariable = True
    return index


def _lstm(coupled: bool = False, peephole: bool = False, time_major: bool = False, fused: int = 4) -> Any:
    def make(t: Tflite) -> None:
        steps, batch, size, units = 5, 2, 3, 4
        shape = (steps, batch, size) if time_major else (batch, steps, size)
        gates = [-1 if coupled and i == 0 else i for i in range(4)]
        inputs = [t.input(shape)]
        inputs += [-1 if g < 0 else t.weight(units, size) for g in gates]
        inputs += [-1 if g < 0 else t.weight(units, units) for g in gates]
        inputs += [t.weight(units) if peephole and not (coupled and i == 0) else -1 for i in range(3)]
        inputs += [-1 if g < 0 else t.weight(units) for g in gates]
        inputs += [-1, -1, _variable(t, batch, units), _variable(t, batch, units), -1, -1, -1, -1]
        t.op(
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            inputs,
            (*shape[:2], units),
            "UnidirectionalSequenceLSTMOptions",
            fusedActivationFunction=fused,
            timeMajor=time_major,
        )

    return make


add_case("UNIDIRECTIONAL_SEQUENCE_LSTM", _lstm())
add_case("UNIDIRECTIONAL_SEQUENCE_LSTM time", _lstm(time_major=True))
add_case("UNIDIRECTIONAL_SEQUENCE_LSTM coupled", _lstm(coupled=True))
add_case("UNIDIRECTIONAL_SEQUENCE_LSTM peephole", _lstm(peephole=True))
add_case("UNIDIRECTIONAL_SEQUENCE_LSTM peephole coupled", _lstm(coupled=True, peephole=True))


def _both(merge: bool) -> Any:
    def make(t: Tflite) -> None:
        # The interpreter's merged outputs of more than one sample change from run to run: it reads what it never wrote.
        steps, batch, size, units = 5, 1 if merge else 2, 3, 4
        way = lambda: (  # noqa: E731
            [t.weight(units, size) for _ in range(4)]
            + [t.weight(units, units) for _ in range(4)]
            + [-1] * 3
            + [t.weight(units) for _ in range(4)]
            + [-1, -1]
        )
        inputs = [
            t.input((batch, steps, size)),
            *way(),
            *way(),
            *[_variable(t, batch, units) for _ in range(4)],
            *[-1] * 9,
        ]
        shapes = [(batch, steps, 2 * units)] if merge else [(batch, steps, units)] * 2
        t.op(
            "BIDIRECTIONAL_SEQUENCE_LSTM",
            inputs,
            [t.tensor(s) for s in shapes],
            "BidirectionalSequenceLSTMOptions",
            several=True,
            fusedActivationFunction=4,
            timeMajor=False,
            mergeOutputs=merge,
        )

    return make


add_case("BIDIRECTIONAL_SEQUENCE_LSTM merged", _both(True))
add_case("BIDIRECTIONAL_SEQUENCE_LSTM", _both(False))
for _time in (False, True):
    for _fused in (4, 1):
        add_case(
            f"UNIDIRECTIONAL_SEQUENCE_RNN {_time} {_fused}",
            lambda t, time=_time, fused=_fused: t.op(
                "UNIDIRECTIONAL_SEQUENCE_RNN",
                [
                    t.input((5, 2, 3) if time else (2, 5, 3)),
                    t.weight(4, 3),
                    t.weight(4, 4),
                    t.weight(4),
                    _variable(t, 2, 4),
                ],
                (5, 2, 4) if time else (2, 5, 4),
                "SequenceRNNOptions",
                timeMajor=time,
                fusedActivationFunction=fused,
            ),
        )


add_case(
    "QUANTIZE",
    lambda t: t.op("QUANTIZE", [t.input(IMAGE)], t.tensor(IMAGE, "int8", scale=0.05, zero=3), "QuantizeOptions"),
)
add_case(
    "DEQUANTIZE",
    lambda t: t.op("DEQUANTIZE", [t.input(IMAGE, "uint8", scale=0.1, zero=128)], IMAGE, "DequantizeOptions"),
    ranges={0: (0, 255)},
)


@case("DEQUANTIZE float16")
def _half(t: Tflite) -> None:
    half = t.constant((t.random.standard_normal((8, 3, 3, 4)) * 0.3).astype(np.float16))
    weight = t.op("DEQUANTIZE", [half], (8, 3, 3, 4), "DequantizeOptions")
    t.op("CONV_2D", [t.input(IMAGE), weight, t.weight(8)], (1, 6, 8, 8), "Conv2DOptions", strideW=1, strideH=1)


@case("DENSIFY")
def _sparse(t: Tflite) -> None:
    weight = t.random.standard_normal((6, 8)) * (t.random.random((6, 8)) < 0.4)
    dense = t.op("DENSIFY", [t.sparse(weight.astype(np.float32))], (6, 8), "DensifyOptions")
    t.op("FULLY_CONNECTED", [t.input((3, 8)), dense, t.weight(6)], (3, 6), "FullyConnectedOptions")


@case("DENSIFY blocks")
def _sparse_blocks(t: Tflite) -> None:
    weight = (
        t.random.standard_normal((6, 8)).astype(np.float32).reshape(6, 2, 4)
        * np.array([[1, 0], [0, 1], [1, 1], [0, 0], [0, 1], [1, 0]])[..., None]
    )
    dense = t.op("DENSIFY", [t.sparse(weight.reshape(6, 8).astype(np.float32), block=4)], (6, 8), "DensifyOptions")
    t.op("FULLY_CONNECTED", [t.input((3, 8)), dense, t.weight(6)], (3, 6), "FullyConnectedOptions")
