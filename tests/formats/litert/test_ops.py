"""Every operator of the table, against the interpreter without delegates."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.formats.litert.read.door import read_litert
from fewbit.formats.litert.read.ops import OPS, REFUSED
from fewbit.graph.load import load
from tests.formats.litert.build import Tflite, run_hub, run_litert
from tests.formats.litert.cases import CASES, Case

DTYPES = {
    "float32": np.float32,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
    "int8": np.int8,
    "uint8": np.uint8,
}


def built(case: Case, *, first: bool) -> tuple[Tflite, bytes]:
    tflite = Tflite(first=first)
    case.make(tflite)
    return tflite, tflite.data()


def feed_of(model: ir.Model, case: Case, seed: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    feed = []
    for place, value in enumerate(model.graph.inputs):
        shape, dtype = tuple(value.shape.numpy()), value.dtype.numpy()
        low, high = case.ranges.get(place, (-3, 3))
        if dtype.kind == "b":
            feed.append(random.integers(0, 2, shape).astype(bool))
        elif dtype.kind in "iu":
            feed.append(np.asarray(random.integers(int(low), int(high) + 1, shape)).astype(dtype))
        elif place in case.ranges:
            feed.append(random.uniform(low, high, shape).astype(dtype))
        else:
            feed.append(random.standard_normal(shape).astype(dtype))
    return feed


def same(got: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> None:
    assert len(got) == len(wanted)
    for one, two in zip(got, wanted, strict=True):
        assert one.dtype == two.dtype
        assert one.shape == two.shape
        if one.dtype.kind == "f":
            np.testing.assert_allclose(
                one, two, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(two).max(initial=0)))
            )
        else:
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("first", [False, True], ids=["file", "first"])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_interpreter(name: str, first: bool) -> None:
    case = CASES[name]
    _, data = built(case, first=first)
    model = read_litert(data).model
    feed = feed_of(model, case)
    wanted = run_litert(data, feed)
    same(run_hub(model, feed), wanted, case.tolerance)
    same(run_hub(load(model).model, feed), wanted, case.tolerance)


def test_every_row_of_the_table_is_tested() -> None:
    used = set()
    for case in CASES.values():
        tflite, _ = built(case, first=False)
        names = {
            code: name
            for name, code in __import__("fewbit.formats.litert.schema", fromlist=["x"]).operator_codes().items()
        }
        found = {names[code.builtinCode] for code in tflite.model.operatorCodes}
        assert case.op in found, case.op
        used |= found
    assert used >= set(OPS), sorted(set(OPS) - used)
    assert not set(OPS) & set(REFUSED)
