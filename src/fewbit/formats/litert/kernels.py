"""The operators of a LiteRT file, each as a file of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.formats.litert.schema import IDENTIFIER, TENSOR_TYPES, operator_names, schema
from fewbit.runtimes.kernel import Kernel, kernel_digest
from fewbit.runtimes.litert import open_interpreter
from fewbit.runtimes.session import Feed

_SEED = 0  # of the numbers that stand for activations


def litert_kernels(path: Path, feed: Feed) -> list[Kernel]:
    """The operators of a file's main graph, in its order, with numbers of the right size for what reaches them.

    Operators that call other graphs of the file, and those whose sizes the file leaves open, are left out.

    feed: not looked at: sizes are in the file.
    """
    classes = schema()
    model = classes.ModelT.InitFromPackedBuf(path.read_bytes())
    graph = model.subgraphs[0]
    generator = np.random.default_rng(_SEED)
    found = []
    expanding: dict[int, Any] = {}  # tensor → the operator that makes it of constants, when the file is loaded
    padding: dict[int, Any] = {}  # tensor → the PAD that makes it, which XNNPACK leaves to the convolution behind it
    for operator in graph.operators:
        given, made = (_distinct(ends) for ends in (operator.inputs, operator.outputs))
        constant = {i for i in given if i in expanding or _data(model, graph.tensors[i]) is not None}
        if constant == set(given):
            expanding |= dict.fromkeys(made, operator)
            continue
        code = model.operatorCodes[operator.opcodeIndex]
        op = operator_names().get(max(code.builtinCode, code.deprecatedBuiltinCode), "?")
        if op == "PAD" and _read_by_convolution(model, graph, made[0]):
            padding[made[0]] = operator
            continue
        padded = [padding[index] for index in given if index in padding]
        given = _distinct([index for before in [*padded, operator] for index in before.inputs])
        given = [index for index in given if index not in padding]
        constant = {i for i in given if i in expanding or _data(model, graph.tensors[i]) is not None}
        activations = [index for index in given if index not in constant]
        sizes = [_shape(graph.tensors[index]) for index in [*activations, *made]]
        known = all(graph.tensors[index].type in TENSOR_TYPES for index in [*given, *made])
        if not activations or not known or any(size < 0 for shape in sizes for size in shape) or op in _CALLS:
            continue
        inputs = [_end(graph.tensors[index], index in constant) for index in given]
        outputs = [_end(graph.tensors[index], False) for index in made]
        names = [graph.tensors[index].name.decode() for index in made]
        arrays = {f"x{n}": _numbers(graph.tensors[index], generator) for n, index in enumerate(activations)}
        before = [expanding[index] for index in given if index in expanding]
        data = _file(classes, model, graph, [*before, *padded, operator], activations, made)
        found.append(
            Kernel(kernel_digest(op, _plain(operator.builtinOptions), inputs, outputs), op, names, data, arrays)
        )
    return found


def timed_litert_kernel(kernel: Kernel) -> Callable[[], object]:
    """One run of an operator on one thread, with its inputs in place."""
    interpreter = open_interpreter(kernel.model, threads=1)
    for detail, array in zip(interpreter.get_input_details(), kernel.feed.values(), strict=True):
        interpreter.set_tensor(detail["index"], array)
    invoke: Callable[[], object] = interpreter.invoke
    return invoke


def _read_by_convolution(model: Any, graph: Any, tensor: int) -> bool:
    """Whether one convolution reads a tensor, and nothing else does."""
    readers = [o for o in graph.operators if tensor in _distinct(o.inputs)]
    codes = [model.operatorCodes[o.opcodeIndex] for o in readers]
    names = [operator_names().get(max(c.builtinCode, c.deprecatedBuiltinCode)) for c in codes]
    return tensor not in graph.outputs and len(names) == 1 and names[0] in ("CONV_2D", "DEPTHWISE_CONV_2D")


_CALLS = ("IF", "WHILE", "CALL_ONCE", "STABLEHLO_COMPOSITE")


def _distinct(ends: Any) -> list[int]:
    """Indices of tensors, each once, without those that are left out (-1)."""
    return [int(index) for index in dict.fromkeys(map(int, ends if ends is not None else ())) if index >= 0]


def _data(model: Any, tensor: Any) -> Any:
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else data


def _shape(tensor: Any) -> list[int]:
    return [int(size) for size in (tensor.shape if tensor.shape is not None else ())]


def _end(tensor: Any, constant: bool) -> list[Any]:
    scales = None if tensor.quantization is None else tensor.quantization.scale
    return [int(tensor.type), _shape(tensor), constant, 0 if scales is None else len(scales)]


def _plain(options: Any) -> Any:
    """The attributes of an operator."""
    return None if options is None else [type(options).__name__, {k: str(v) for k, v in vars(options).items()}]


def _numbers(tensor: Any, generator: np.random.Generator) -> NDArray[Any]:
    dtype = TENSOR_TYPES[tensor.type].numpy()
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(_shape(tensor)).astype(dtype)
    if dtype in (np.int8, np.uint8):
        info = np.iinfo(dtype)
        return generator.integers(info.min, info.max, _shape(tensor), dtype, endpoint=True)
    return np.zeros(_shape(tensor), dtype)  # indices, which must not point outside


def _file(classes: Any, model: Any, graph: Any, operators: list[Any], activations: list[int], made: list[int]) -> bytes:
    """A file with some operators, and of the tensors and buffers those that they need."""
    import flatbuffers  # type: ignore[import-untyped]

    indices = _distinct([index for operator in operators for index in [*operator.inputs, *operator.outputs]])
    place = {index: n for n, index in enumerate(indices)}
    buffers = [classes.BufferT()]
    tensors = []
    for index in indices:
        tensor = copy.copy(graph.tensors[index])
        data = _data(model, tensor)
        tensor.buffer = 0 if data is None else len(buffers)
        if data is not None:
            held = classes.BufferT()
            held.data = data
            buffers.append(held)
        tensor.name = f"t{place[index]}".encode()
        tensors.append(tensor)
    codes = list(dict.fromkeys(operator.opcodeIndex for operator in operators))
    held_operators = []
    for operator in operators:
        single = copy.copy(operator)
        single.opcodeIndex = codes.index(operator.opcodeIndex)
        single.inputs = [place.get(int(index), -1) for index in operator.inputs]
        single.outputs = [place[int(index)] for index in operator.outputs]
        single.intermediates = None
        held_operators.append(single)
    inner = classes.SubGraphT()
    inner.tensors, inner.operators = tensors, held_operators
    inner.inputs, inner.outputs = [place[i] for i in activations], [place[i] for i in made]
    whole = classes.ModelT()
    whole.version = model.version
    whole.operatorCodes = [model.operatorCodes[code] for code in codes]
    whole.subgraphs, whole.buffers = [inner], buffers
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(whole.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())
