"""ONNX's own node tests: what is written computes what they say, and what cannot be is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fewbit.errors import FewbitError
from fewbit.formats.litert.write import write_litert
from fewbit.graph.load import load
from tests.formats.litert.write.running import KINDS, run_file
from tests.torchgraph.node_cases import cases

pytest.importorskip("ai_edge_litert")

RTOL, ATOL = 2e-3, 1e-4
LEAST = 760
"""Of about 1640 with tensors of numbers; the rest has operators or element types that LiteRT does not have."""

_FINITE = "LiteRT's own kernels clamp sums and maxima to finite numbers, -inf to -3.4e38, and a row of them differs"
KNOWN = {
    "test_gather_negative_indices": "indices that are computed must not be negative: the interpreter refuses them",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal_expanded": _FINITE,
    "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal_expanded": _FINITE,
    "test_attention_causal_boolmask_nan_robustness_expanded": _FINITE,
    "test_attention_4d_causal_nonpad_negative_offset_structural_empty_expanded": _FINITE,
}
"""Cases that differ, and why."""


def written(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> tuple[bytes, dict[str, np.ndarray]] | None:
    """The file and what to feed it; all inputs but the first as constants if it cannot be written otherwise."""
    for constants in ((), tuple(inputs)[1:]):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        feed = {name: array for name, array in inputs.items() if name not in constants}
        kept = [value for value in copy.graph.input if value.name in feed]
        del copy.graph.input[:]
        copy.graph.input.extend(kept)
        copy.graph.initializer.extend(numpy_helper.from_array(inputs[name], name) for name in constants)
        try:
            return write_litert(load(copy), shapes={name: array.shape for name, array in feed.items()}), feed
        except FewbitError:
            continue
    return None


def numbers(arrays: list[Any]) -> bool:
    return all(isinstance(a, np.ndarray | np.generic) and np.asarray(a).dtype != object for a in arrays)


@pytest.mark.slow
def test_every_node_test_is_right_or_refused() -> None:
    same = 0
    for name, case in cases().items():
        if case.model is None or not case.data_sets:
            continue
        given, wanted = case.data_sets[0]
        if not numbers([*given, *wanted]):
            continue
        graph = case.model.graph
        inputs = {value.name: np.asarray(array) for value, array in zip(graph.input, given, strict=False)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = written(case.model, inputs)
        if made is None or name in KNOWN:
            continue
        for kind in KINDS:
            outputs = run_file(*made, kind)
            for value, array in zip(graph.output, wanted, strict=True):
                found, expected = outputs[value.name], np.asarray(array)
                assert found.shape == expected.shape, name
                close = np.allclose(
                    found.astype(np.float64), expected.astype(np.float64), rtol=RTOL, atol=ATOL, equal_nan=True
                )
                assert close, (name, kind)
        same += 1
    assert same >= LEAST
    print(f"{same} node tests agree")
