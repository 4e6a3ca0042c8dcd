"""Files that are damaged or meant to harm: each is a ModelError of one line, or comes in, in little time and memory."""

from __future__ import annotations

import copy
import random
import resource
import struct
import time

import numpy as np
import pytest

from fewbit.errors import ModelError
from fewbit.formats.litert.read.door import read_litert
from fewbit.formats.litert.read.metadata import litert_metadata
from fewbit.graph.load import load
from tests.formats.litert.build import Tflite
from tests.formats.litert.cases import CASES
from tests.formats.litert.test_metadata import attached, with_metadata
from tests.formats.litert.test_read import composed, network, several

LONGEST = 10.0
"""Seconds: a file takes milliseconds, and a machine that does other things too takes longer."""
MOST_MEMORY = 1_500_000
"""Kilobytes by which one file may raise the peak of the process."""


def files() -> list[bytes]:
    made = [network().data(), several(), composed().data(), attached(with_metadata(), {"labels.txt": b"cat"})]
    for name in (
        "CONV_2D dilated",
        "DENSIFY blocks",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "DYNAMIC_UPDATE_SLICE",
        "FILL",
        "RANGE",
    ):
        t = Tflite(first=True)
        CASES[name].make(t)
        made.append(t.data())
    quantized = Tflite()
    weight = quantized.constant(np.ones((3, 2), np.int8), scale=[0.1, 0.2, 0.3])
    quantized.op(
        "FULLY_CONNECTED",
        [quantized.input((1, 2), "int8", scale=0.1), weight],
        quantized.tensor((1, 3), "int8", scale=0.5),
        "FullyConnectedOptions",
    )
    return [*made, quantized.data()]


def mutated(data: bytes, chance: random.Random) -> bytes:
    made = bytearray(data)
    how = chance.randrange(6)
    if how == 0:
        return bytes(made[: chance.randrange(len(made))])
    for _ in range(1 if chance.random() < 0.7 else chance.randrange(2, 8)):
        if how < 3:
            made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
        else:
            place = chance.randrange(len(made) - 4) // 4 * 4
            some = (
                0,
                1,
                2,
                3,
                0xFFFFFFFF,
                0x7FFFFFFF,
                0x80000000,
                chance.getrandbits(32),
                len(made),
                chance.randrange(1000),
            )
            made[place : place + 4] = struct.pack("<I", chance.choice(some))
    return bytes(made)


def survives(data: bytes, note: object) -> bool:
    """Whether it came in; anything but a ModelError of one line is raised."""
    started, peak = time.perf_counter(), _peak()
    came_in = False
    try:
        litert_metadata(data)
        load(read_litert(data).model)
        came_in = True
    except ModelError as error:
        assert "\n" not in str(error), (note, str(error))
    assert time.perf_counter() - started < LONGEST, note
    assert _peak() - peak < MOST_MEMORY, note
    return came_in


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fuzz(count: int, seed: int) -> None:
    chance, sources = random.Random(seed), files()
    came_in = sum(survives(mutated(chance.choice(sources), chance), (seed, number)) for number in range(count))
    assert 0 < came_in < count


def test_mutations() -> None:
    fuzz(400, seed=1)


@pytest.mark.slow
def test_many_mutations() -> None:
    fuzz(10_000, seed=2)


def test_files_of_the_fuzz_test_are_sound() -> None:
    assert all(survives(data, index) for index, data in enumerate(files()))


def test_every_truncation() -> None:
    data = network().data()
    for size in range(0, len(data), 7):
        survives(data[:size], size)


def refused(data: bytes, why: str) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        read_litert(data)
    assert "\n" not in str(caught.value)


def test_a_tensor_whose_bytes_do_not_fit() -> None:
    t = Tflite()
    weight = t.constant(np.ones(6, np.float32))
    t.graph.tensors[weight].shape = [2, 4]
    t.op("ADD", [t.input((2, 4)), weight], (2, 4), "AddOptions")
    refused(t.data(), r"tensor 'tensor0' of shape \(2, 4\) and type FLOAT needs 32 bytes and has 24")


def test_a_cycle() -> None:
    t = Tflite()
    a, b = t.tensor((2,)), t.tensor((2,))
    t.op("RELU", [a], b)
    t.op("RELU", [b], a)
    refused(t.data(), "needs tensor 0 .* which nothing before it makes")


def test_two_operators_that_make_the_same() -> None:
    t = Tflite()
    x, y = t.input((2,)), t.tensor((2,))
    t.op("RELU", [x], y)
    t.op("ABS", [x], y)
    refused(t.data(), r"operator 1 \(ABS, which makes 'tensor1'\) makes what is there already")


def test_parts_that_share_bytes() -> None:
    """A thousand operators that are one, each with a thousand inputs, are a million in a file of a few kilobytes."""
    t = Tflite()
    t.op("ADD_N", [t.input((2,))] * 2000, (2,), "AddNOptions")
    made = t.graph.operators[0]
    packed = made.Pack
    made.Pack = _once(packed)  # type: ignore[method-assign]
    t.graph.operators = [made] * 2000
    refused(t.data(), "its parts share bytes and are more than 8 times its size")


def _once(pack):  # type: ignore[no-untyped-def]
    places: list[int] = []

    def packed(builder):  # type: ignore[no-untyped-def]
        if not places:
            places.append(pack(builder))
        return places[0]

    return packed


def test_sizes_that_only_a_shape_states() -> None:
    """Vectors of 2^27 entries without a byte of data, of which shape inference would make shapes."""
    t = Tflite()
    t.op("CAST", [t.input((1 << 27,), "int32")], (1 << 27,), dtype="int64")
    assert survives(t.data(), "cast")
    t = Tflite()
    filled = t.op("FILL", [t.constant([1 << 30]), t.constant(np.int32(1))], (1 << 30,), dtype="int32")
    t.op("ADD", [filled, t.input((1,), "int32")], (1 << 30,), "AddOptions", dtype="int32")
    assert survives(t.data(), "fill")


def test_many_copies_of_little() -> None:
    """Each of a thousand FILLs is small enough to be computed once, and each conversion of float16 doubles a constant."""
    t = Tflite()
    shape, one, x = t.constant([1 << 18]), t.constant(np.float32(1)), t.input((1,))
    filled = [t.op("FILL", [shape, one], (1 << 18,)) for _ in range(1000)]
    half = t.constant(np.zeros(1 << 19, np.float16))
    wide = [t.op("DEQUANTIZE", [half], (1 << 19,)) for _ in range(1000)]
    t.outputs(*[t.op("ADD", [y, x], t.graph.tensors[y].shape, "AddOptions") for y in (*filled, *wide)])
    assert survives(t.data(), "copies")


def test_composites_that_grow() -> None:
    """Ten calls of ten calls ... of a function are a million operators in a kilobyte."""
    t = composed()
    body = t.model.subgraphs[1]
    call = t.graph.operators[0]
    for depth in range(2, 8):
        step = t.api.SubGraphT()
        step.name, step.inputs, step.outputs = f"depth{depth}".encode(), [0], [10]
        step.tensors = [body.tensors[0]] * 11
        step.operators = []
        for place in range(10):
            made = copy.copy(call)
            made.builtinOptions2 = copy.copy(call.builtinOptions2)
            made.builtinOptions2.decompositionSubgraphIndex = depth - 1
            made.inputs, made.outputs = np.array([place], np.int32), np.array([place + 1], np.int32)
            step.operators.append(made)
        t.model.subgraphs.append(step)
    call.builtinOptions2.decompositionSubgraphIndex = 7
    refused(t.data(), "more than 32768 operators or 262144 tensors")


def test_an_attribute_that_would_divide_by_zero() -> None:
    t = Tflite()
    t.op(
        "CONV_2D",
        [t.input((1, 4, 4, 2)), t.weight(2, 1, 1, 2), t.weight(2)],
        (1, 4, 4, 2),
        "Conv2DOptions",
        strideW=0,
        strideH=1,
    )
    refused(t.data(), "has a window, stride or dilation of 0")
