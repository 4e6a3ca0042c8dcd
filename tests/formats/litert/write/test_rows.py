"""Every row of the operator table computes what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from fewbit.formats.litert.write import write_litert
from fewbit.formats.litert.write.ops import ROWS
from fewbit.graph.load import load
from tests.formats.litert.write.cases import Case
from tests.formats.litert.write.cases_moving import CASES
from tests.formats.litert.write.running import KINDS, kernels, relative, run_file, run_model

pytest.importorskip("ai_edge_litert")

TOLERANCE = 1e-4


def feed_of(model: onnx.ModelProto, positive: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    feed = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            feed[value.name] = rng.integers(0, 7, shape)
        else:
            array = rng.normal(size=shape) * 2
            feed[value.name] = (np.abs(array) + 0.1 if positive else array).astype(np.float32)
    return feed


def test_no_row_lacks_a_case() -> None:
    assert sorted(CASES) == sorted(ROWS)


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=f"{name}-{i}") for name, cases in CASES.items() for i, c in enumerate(cases)]
)
def test_row(case: Case) -> None:
    model = case.model()
    feed = feed_of(model, case.positive)
    data = write_litert(load(model))
    expected = run_model(model, feed)
    for kind in KINDS:
        outputs = run_file(data, feed, kind)
        for info, wanted in zip(model.graph.output, expected, strict=True):
            assert outputs[info.name].shape == wanted.shape
            assert relative(outputs[info.name], wanted) <= TOLERANCE, kind
    assert set(case.kernels) <= set(kernels(data))
