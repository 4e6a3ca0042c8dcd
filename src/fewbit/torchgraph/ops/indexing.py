"""Rules for sizes and positions that tensors and numbers on the host share."""

from __future__ import annotations

from collections.abc import Sequence

from fewbit.torchgraph.node import Host, Node


def given_axes(node: Node, axes: Host | None) -> list[int] | None:
    """Axes from the input that has them in newer operator sets, or from the attribute of older ones; None: none given."""
    given = node.get("axes") if axes is None else axes.reshape(-1).tolist()
    return list(given) if given else None


def reshape_sizes(node: Node, shape: Sequence[int], wanted: Host) -> list[int]:
    """The sizes that Reshape asks for: 0 copies the input's size, unless `allowzero` says that it means 0."""
    return [
        shape[axis] if size == 0 and not node.get("allowzero", 0) else size for axis, size in enumerate(wanted.tolist())
    ]


def slices(
    shape: Sequence[int],
    starts: Host | None,
    ends: Host | None,
    axes: Host | None = None,
    steps: Host | None = None,
) -> tuple[slice, ...]:
    """One slice an axis, with positions that are clamped as Python does; a backward one may run to the front."""
    if starts is None or ends is None:
        raise ValueError("Slice needs starts and ends")
    found = [slice(None)] * len(shape)
    chosen = range(starts.size) if axes is None else axes.tolist()
    for axis, start, end, step in zip(
        chosen, starts.tolist(), ends.tolist(), [1] * starts.size if steps is None else steps.tolist(), strict=True
    ):
        begin, stop, stride = slice(start, end, step).indices(shape[axis])
        found[axis] = slice(begin, None if stop < 0 else stop, stride)
    return tuple(found)


def split_sizes(node: Node, shape: Sequence[int], sizes: Host | None) -> list[int]:
    """Sizes of the parts: given, or equal ones of which the last may be smaller (opset 18)."""
    if sizes is not None:
        return sizes.tolist()
    whole = shape[node["axis"]]
    count = node.get("num_outputs") or len(node.outputs)
    part = -(-whole // count)
    return [max(0, min(part, whole - part * index)) for index in range(count)]


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], lower: bool
) -> list[int]:
    """Pads of `auto_pad` SAME_UPPER and SAME_LOWER (the odd one at the end, or at the beginning): begins, then ends."""
    total = [
        max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return [*large, *small] if lower else [*small, *large]


def window_pads(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """The pads of a convolution or pooling node: begins, then ends."""
    rank = len(sizes)
    if node["auto_pad"] in ("SAME_UPPER", "SAME_LOWER"):
        strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
        return same_pads(sizes, kernel, strides, dilations, node["auto_pad"] == "SAME_LOWER")
    if node["auto_pad"] == "VALID":
        return [0] * 2 * rank
    return list(node.get("pads") or [0] * 2 * rank)


def torch_pads(pads: Sequence[int]) -> list[int]:
    """ONNX's pads (begins, then ends) as torch.nn.functional.pad takes them: the last axis first."""
    rank = len(pads) // 2
    return [pads[axis + side] for axis in reversed(range(rank)) for side in (0, rank)]
