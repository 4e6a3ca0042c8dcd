"""Write a model as ExecuTorch, for XNNPACK."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import onnx_ir as ir
import torch

from fewbit.errors import ModelError
from fewbit.extras import load_extra
from fewbit.formats.executorch.rows import ROWS
from fewbit.formats.executorch.spell import spell
from fewbit.graph.fixed_inputs import fix_inputs
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.load import load
from fewbit.graph.rules import fold_constants
from fewbit.graph.shapes import infer_shapes
from fewbit.runtimes.executorch import ENDS, PURPOSE
from fewbit.runtimes.session import one_line
from fewbit.torchgraph.dtypes import torch_dtype
from fewbit.torchgraph.module import GraphModule, to_torch


@dataclass(frozen=True, slots=True)
class Written:
    """A .pte file and what a reader of it should know.

    data: the bytes.
    notes: products that compute in float although their weights are integers in the model.
    """

    data: bytes
    notes: tuple[str, ...]


def write_executorch(
    model: Hub | ir.Model, *, shapes: Mapping[str, Sequence[int]] | None = None, dynamic: bool | Collection[str] = True
) -> bytes:
    """The bytes of a .pte file that computes what the model does, with XNNPACK where it can.

    Args:
        model: float, or with QuantizeLinear and DequantizeLinear: an operator between the two is an integer kernel where
            XNNPACK has one.
        shapes: input name → sizes. Left out, a first axis of open size is 1; other open sizes have to be given.
        dynamic: products of a float activation and an integer weight quantize the activation, row by row, as they run;
            or the names of the nodes that do. Otherwise such weights become float.

    Raises:
        DataError: sizes that are missing or contradict the model.
        ModelError: an operator that the torch executor does not know, or that ExecuTorch cannot lower; the message has its
            words.
        MissingExtraError: executorch is not installed.
    """
    return convert(model, shapes=shapes, dynamic=dynamic).data


def convert(
    model: Hub | ir.Model, *, shapes: Mapping[str, Sequence[int]] | None = None, dynamic: bool | Collection[str] = True
) -> Written:
    """`write_executorch`, with its notes."""
    hub = load(model, normalize=False)
    fix_inputs(hub, shapes or {})
    for node in hub.nodes():
        for value in node.outputs:
            value.shape = None  # sizes that depend on the inputs are found anew
    infer_shapes(hub.model)
    hub = load(hub)
    fold_constants.apply(hub, always=True)  # XNNPACK wants weights that are constants
    ends = {"inputs": [info.name for info in hub.inputs], "outputs": [info.name for info in hub.outputs]}
    notes = spell(hub, dynamic=dynamic)
    module = to_torch(hub, trainable=False, rows=ROWS).eval()
    with _quiet():
        data = _lowered(module, _examples(hub), json.dumps(ends))
    return Written(data, tuple(notes))


def _lowered(module: GraphModule, examples: tuple[torch.Tensor, ...], ends: str) -> bytes:
    exir = load_extra("executorch.exir", PURPOSE)
    xnnpack = load_extra("executorch.backends.xnnpack.partition.xnnpack_partitioner", PURPOSE)
    load_extra("executorch.kernels.quantized", PURPOSE)  # for the quantizers that XNNPACK leaves
    try:
        program = torch.export.export(module, examples)
        edge = exir.to_edge_transform_and_lower(
            program, partitioner=[xnnpack.XnnpackPartitioner()], constant_methods={ENDS: ends}
        )
        return bytes(edge.to_executorch().buffer)
    except Exception as error:  # its passes raise nothing narrower
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ModelError(
            f"ExecuTorch cannot lower the model: {one_line(error)[:200]} ({type(cause).__name__}: {one_line(cause)[:200]}); "
            f"leave out what it names, or report this model"
        ) from error


def _examples(hub: Hub) -> tuple[torch.Tensor, ...]:
    """Zeros in the shapes and types of the inputs."""
    values = [value for value in hub.graph.inputs if value.const_value is None]
    return tuple(torch.zeros(shape_of(value), dtype=torch_dtype(value.dtype)) for value in values)  # type: ignore[arg-type]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the news of a lowering."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
