"""Convolutions: NHWC, weights as (O, H, W, I), or (1, H, W, O) of a depthwise one."""

from __future__ import annotations

from collections.abc import Sequence

from fewbit.errors import ModelError
from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.graph import Op, Tensor
from fewbit.formats.litert.write.layout import channels_last
from fewbit.formats.litert.write.ops.padding import Padding, explicit_pads, find_padding, pad_image
from fewbit.formats.litert.write.ops.row import Row
from fewbit.formats.litert.write.ops.weights import bias_of, weight_of


def _image(emit: Emitter, tensor: Tensor) -> tuple[int, list[int]]:
    """An input as NHWC, a signal of one axis as an image of height 1, and its spatial sizes."""
    index = emit.read(tensor, channels_last(tensor.rank))
    sizes = list(tensor.shape[2:])
    if tensor.rank == 3:
        return emit.reshape(index, (tensor.shape[0], 1, tensor.shape[2], tensor.shape[1])), [1, *sizes]
    return index, sizes


def _finish(emit: Emitter, op: Op) -> int:
    """Where a convolution writes to; `_squeeze` makes a signal of it again."""
    output = op.outputs[0]
    if output.rank == 3:
        n, c, w = output.shape
        return emit.temporary(f"{output.name}_image", (n, 1, w, c), output)
    return emit.make(output, channels_last(output.rank))


def _squeeze(emit: Emitter, op: Op, image: int) -> None:
    output = op.outputs[0]
    if output.rank == 3:
        target = emit.make(output, channels_last(3))
        emit.reshape(image, emit.shape(target), target)


def _two(values: Sequence[int]) -> list[int]:
    return [1, *values] if len(values) == 1 else list(values)


def _conv(emit: Emitter, op: Op) -> None:
    x, weight = op.need(0), op.need(1)
    if x.rank not in (3, 4):
        raise refuse(op, f"its input has {x.rank} axes", "LiteRT convolves signals and images")
    kernel, flat = _spatial(weight)
    spatial = len(weight.shape) - 2
    strides, dilations = _two(op.get("strides", (1,) * spatial)), _two(op.get("dilations", (1,) * spatial))
    groups = int(op.get("group", 1))
    image, sizes = _image(emit, x)
    pads = explicit_pads(
        op, x.shape[2:], weight.shape[2:], op.get("strides", (1,) * spatial), op.get("dilations", (1,) * spatial)
    )
    pads = [(0, 0), *pads] if spatial == 1 else pads
    padding = find_padding(sizes, kernel, strides, dilations, pads)
    if padding is Padding.EXPLICIT:
        image = pad_image(emit, x, image, pads)
        padding = Padding.VALID
    channels = x.shape[1]
    depthwise = groups > 1 and weight.shape[1] == 1 and groups == channels
    # (O, I, H, W): a depthwise kernel is (1, H, W, O); output channel o reads input o // multiplier in both.
    layout = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    target = _finish(emit, op)
    inputs = [image, weight_of(emit, op, flat, layout), bias_of(emit, op, weight.shape[0])]
    fields = {
        "padding": padding.value,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": op.activation,
    }
    if depthwise:
        fields["depthMultiplier"] = weight.shape[0] // channels
        emit.call("DEPTHWISE_CONV_2D", inputs, [target], "DepthwiseConv2DOptions", **fields)
    else:
        emit.call("CONV_2D", inputs, [target], "Conv2DOptions", **fields)
    _squeeze(emit, op, target)


def _spatial(weight: Tensor) -> tuple[list[int], Tensor]:
    """The kernel's height and width, and the weight with both axes."""
    if weight.rank == 4:
        return list(weight.shape[2:]), weight
    shape = (weight.shape[0], weight.shape[1], 1, weight.shape[2])
    if weight.data is None:
        raise ModelError(f"weight {weight.name!r} of a convolution of a signal is computed; LiteRT needs a constant")
    return [1, weight.shape[2]], Tensor(weight.name, shape, weight.dtype, weight.data.reshape(shape), weight.quant)


def _conv_transpose(emit: Emitter, op: Op) -> None:
    x, weight = op.need(0), op.need(1)
    if x.rank not in (3, 4) or int(op.get("group", 1)) != 1:
        raise refuse(op, "it has groups or more than two spatial axes", "TRANSPOSE_CONV of LiteRT has neither")
    spatial = x.rank - 2
    if any(d != 1 for d in op.get("dilations", (1,) * spatial)):
        raise refuse(op, f"its dilations are {op.get('dilations', ())}", "TRANSPOSE_CONV of LiteRT has none")
    kernel, flat = _spatial(weight)
    strides = _two(op.get("strides", (1,) * spatial))
    image, sizes = _image(emit, x)
    n, c = op.outputs[0].shape[:2]
    made = _two(op.outputs[0].shape[2:])
    full = [(size - 1) * stride + k for size, stride, k in zip(sizes, strides, kernel, strict=True)]
    pads = _transposed_pads(op, full, made, spatial)
    # LiteRT derives where the output starts from its size: VALID at 0, SAME in the middle.
    if all(p == (0, 0) for p in pads) or not all(
        p == ((f - m) // 2, (f - m) - (f - m) // 2) for p, f, m in zip(pads, full, made, strict=True)
    ):
        padding, shape = "VALID", [max(f, m + p[0]) for f, m, p in zip(full, made, pads, strict=True)]
    else:
        same = all(-(-m // s) == size for m, s, size in zip(made, strides, sizes, strict=True))
        padding, shape = ("SAME", made) if same else ("VALID", full)
    exact = shape == made
    output = op.outputs[0]
    target = _finish(emit, op) if exact else emit.temporary(f"{output.name}_full", (n, *shape, c), output)
    sizes_index = emit.integers((n, *shape, c), "shape")
    inputs = [sizes_index, weight_of(emit, op, flat, (1, 2, 3, 0)), image]
    bias = bias_of(emit, op, c)
    emit.call(
        "TRANSPOSE_CONV",
        [*inputs, bias],
        [target],
        "TransposeConvOptions",
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        fusedActivationFunction=op.activation,
    )
    if not exact:
        final = _finish(emit, op)
        begin = emit.integers((0, pads[0][0], pads[1][0], 0), "begin")
        emit.call("SLICE", [target, begin, emit.integers((n, *made, c), "size")], [final], "SliceOptions")
        target = final
    _squeeze(emit, op, target)


def _transposed_pads(op: Op, full: Sequence[int], made: Sequence[int], spatial: int) -> list[tuple[int, int]]:
    """How much of the full result is cut off at both ends of each axis; negative at the end: zeros are added."""
    mode = op.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER") or op.get("output_shape", None):
        cut = [f - m for f, m in zip(full, made, strict=True)]
        upper = mode == "SAME_UPPER"
        return [(c // 2, c - c // 2) if upper else (c - c // 2, c // 2) for c in cut]
    pads = list(op.get("pads", (0,) * (2 * spatial)))
    begins = _begin(pads[:spatial])
    return [(b, f - m - b) for b, f, m in zip(begins, full, made, strict=True)]


def _begin(pads: Sequence[int]) -> list[int]:
    return [0, *pads] if len(pads) == 1 else list(pads)


ROWS: dict[str, Row] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
