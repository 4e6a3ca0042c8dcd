"""Matrix products. One with a constant matrix is emitted as F.linear, the form that exporters know as a layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.node import Node, Row


def _matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if 1 in node.constant and b.dim() == 2 and b.is_floating_point():
        return functional.linear(a, b.t())
    return torch.matmul(a, b)


def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha · A′ B′ + beta · C, where A′ and B′ may be transposed."""
    a = a.t() if node["transA"] else a
    alpha, beta = node["alpha"], node["beta"]
    if not a.is_floating_point():
        product = torch.matmul(a, b.t() if node["transB"] else b)
        return (alpha * product + (0 if c is None else beta * c)).to(a.dtype)
    b = b if node["transB"] else b.t()
    if alpha == 1 and beta == 1 and c is not None and c.dim() <= 1 and c.numel() == b.shape[0]:
        return functional.linear(a, b, c.reshape(-1))
    product = functional.linear(a, b)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


def _fused_matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """ONNX Runtime's MatMul with a factor and transposed inputs; transBatch moves the first axis before the last."""
    for index, key in ((0, "transBatchA"), (1, "transBatchB")):
        if node.get(key, 0):
            a, b = (a.movedim(0, -2), b) if index == 0 else (a, b.movedim(0, -2))
    a = a.mT if node.get("transA", 0) else a
    b = b.mT if node.get("transB", 0) else b
    return node.get("alpha", 1.0) * torch.matmul(a, b)


def _einsum(node: Node, *inputs: Tensor) -> Tensor:
    return torch.einsum(node["equation"].replace(" ", ""), *inputs)


ROWS: dict[str, Row] = {
    "MatMul": Row(_matmul),
    "Gemm": Row(_gemm),
    "Einsum": Row(_einsum),
    "Det": Row(lambda node, x: torch.linalg.det(x)),
    "com.microsoft.FusedMatMul": Row(_fused_matmul),
}
