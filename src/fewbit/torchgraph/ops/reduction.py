"""Sums, means, extremes and orders along axes. Axes are an input in newer operator sets and an attribute in older ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewbit.torchgraph.node import Host, Node, Row
from fewbit.torchgraph.ops.indexing import given_axes

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]
"""(tensor, axes, whether they stay with size 1)"""


def _reduce(run: Reduction) -> Row:
    def rows(node: Node, x: Tensor, axes: Host | None = None) -> Tensor:
        given = given_axes(node, axes)
        if not given and node.get("noop_with_empty_axes", 0):
            # Nothing is reduced; what the operator does to each number, it does all the same.
            return run(x.unsqueeze(0), (0,), False).to(x.dtype)
        chosen = sorted(axis % x.dim() for axis in given) if given else range(x.dim())
        return run(x, tuple(chosen), bool(node["keepdims"])).to(x.dtype)

    return Row(rows, host=(1,))


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.sum(x, axes, keep) if axes else x


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if not axes:
        return x
    return torch.mean(x if x.is_floating_point() else x.double(), axes, keep)


def _prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep)
    return x


def _extreme(run: Callable[..., Tensor], highest: bool) -> Reduction:
    """Of nothing the maximum is the lowest number of the type, and the minimum the highest."""

    def extreme(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
        if not axes:
            return x
        if x.numel():
            return run(x, axes, keep)
        empty = torch.sum(x, axes, keep)
        if x.is_floating_point():
            return torch.full_like(empty, float("-inf") if highest else float("inf"), dtype=x.dtype)
        if x.dtype == torch.bool:
            return torch.full_like(empty, not highest, dtype=x.dtype)
        limits = torch.iinfo(x.dtype)
        return torch.full_like(empty, limits.min if highest else limits.max, dtype=x.dtype)

    return extreme


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x if x.is_floating_point() else x.double(), axes, keep) if axes else x


def _arg(run: Callable[..., Tensor]) -> Row:
    def arg(node: Node, x: Tensor) -> Tensor:
        axis, keep = node["axis"] % max(x.dim(), 1), bool(node["keepdims"])
        if not node.get("select_last_index", 0):
            return run(x, axis, keep)
        return x.shape[axis] - 1 - run(x.flip(axis), axis, keep)

    return Row(arg)


def _running(run: Callable[..., Tensor], first: int) -> Row:
    """CumSum and CumProd: forwards or backwards, with each number itself or only those before it."""

    def running(node: Node, x: Tensor, axis: Host) -> Tensor:
        dim = int(axis.item()) % x.dim()
        x = x.flip(dim) if node["reverse"] else x
        result = run(x, dim, dtype=x.dtype)
        if node["exclusive"]:
            begin = torch.full_like(x.narrow(dim, 0, 1), first)
            result = torch.cat([begin, result.narrow(dim, 0, x.shape[dim] - 1)], dim)
        return result.flip(dim) if node["reverse"] else result

    return Row(running, host=(1,))


def _top_k(node: Node, x: Tensor, k: Host) -> tuple[Tensor, Tensor]:
    """Among equals the one with the lower index comes first."""
    axis, count = node["axis"], int(k.item())
    values, indices = torch.sort(x, dim=axis, descending=bool(node["largest"]), stable=True)
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


def _hardmax(node: Node, x: Tensor) -> Tensor:
    axis = node["axis"]
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


ROWS: dict[str, Row] = {
    "ReduceSum": _reduce(_sum),
    "ReduceMean": _reduce(_mean),
    "ReduceProd": _reduce(_prod),
    "ReduceMax": _reduce(_extreme(torch.amax, True)),
    "ReduceMin": _reduce(_extreme(torch.amin, False)),
    "ReduceL1": _reduce(lambda x, axes, keep: _sum(x.abs(), axes, keep)),
    "ReduceL2": _reduce(lambda x, axes, keep: torch.sqrt(_sum(x * x, axes, keep))),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: _sum(x * x, axes, keep)),
    "ReduceLogSum": _reduce(lambda x, axes, keep: torch.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": _reduce(_log_sum_exp),
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "CumSum": _running(torch.cumsum, 0),
    "CumProd": _running(torch.cumprod, 1),
    "TopK": Row(_top_k, host=(1,)),
    "Softmax": Row(lambda node, x: torch.softmax(x, node["axis"])),
    "LogSoftmax": Row(lambda node, x: torch.log_softmax(x, node["axis"])),
    "Hardmax": Row(_hardmax),
}
