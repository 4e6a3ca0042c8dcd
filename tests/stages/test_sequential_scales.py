"""Scales chosen by the outputs of their layers, asked for by recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import fewbit
from fewbit.core.affine import dequantize, quantize
from fewbit.core.weights.descent import output_error
from fewbit.core.weights.rows import weight_rows
from fewbit.core.weights.scales import weight_params
from fewbit.errors import RecipeError
from fewbit.graph.ops import Weight
from fewbit.spec import INT4, INT8, UINT4, QParams, QSpec
from fewbit.stages.sequential_scales import sequential_scales
from tests.models import attention, conv_relu_conv

SCALES: dict[str, Any] = {"weight": {"range": "sequential_mse"}}


def weight(array: np.ndarray, out_axis: int, in_axis: int, groups: int = 1) -> Weight:
    tensor = ir.tensor(array, name="w")
    return Weight(ir.Value(name="w", const_value=tensor), 1, out_axis, in_axis, groups)


@pytest.mark.parametrize(
    ("shape", "axes", "groups", "spec"),
    [
        ((48, 24), (1, 0), 1, QSpec(UINT4, (16, 1), symmetric=False)),
        ((24, 48), (0, 1), 1, QSpec(INT8, (1, -1))),
        ((24, 48), (0, 1), 1, QSpec(INT4, ())),
        ((24, 12, 3, 3), (0, 1), 1, QSpec(INT4, (1, 4, -1, -1))),
        ((24, 4, 3, 3), (0, 1), 4, QSpec(INT4, (1, -1, -1, -1))),
    ],
    ids=str,
)
def test_blocks_of_any_layout_lose_less_than_by_least_squares(
    shape: tuple[int, ...], axes: tuple[int, int], groups: int, spec: QSpec
) -> None:
    random = np.random.default_rng(0)
    array = (random.standard_normal(shape) * np.exp(random.standard_normal(shape))).astype(np.float32)
    rows = weight_rows(array, *axes, groups)
    inputs = rows.shape[-1]
    mixing = random.standard_normal((groups, 2 * inputs, inputs)) * np.geomspace(1.0, 0.03, inputs)
    gram = mixing.transpose(0, 2, 1) @ mixing / (2 * inputs)
    plain = weight_params(array, spec)
    found = sequential_scales(rows, gram, plain, weight(array, *axes, groups))
    assert found.spec == spec and found.scale.shape == found.zero_point.shape == plain.scale.shape

    def loss(params: QParams) -> float:
        error = weight_rows(dequantize(quantize(array, params), params) - array, *axes, groups)
        return float(sum(output_error(e, g).sum() for e, g in zip(error, gram, strict=True)))

    assert loss(found) < 0.97 * loss(plain)


def test_pairs_that_must_not_saturate_keep_their_scales() -> None:
    array = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    params = weight_params(array, QSpec(INT8, (1, -1), narrow=True, pair_limit=128))
    assert sequential_scales(array[None], np.eye(8)[None], params, weight(array, 0, 1)) is params


def samples(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("bits", ["int8-weights", "w4a8"])
def test_a_recipe_gets_them(tmp_path: Path, bits: str) -> None:
    model = conv_relu_conv(tmp_path / "m.onnx", channels=128)
    recipe = {"base": bits, "rules": [SCALES]}
    plain, asked = (
        fewbit.quantize(model, data=samples(16, 0), recipe=r, min_sqnr=0, verify=False).plan for r in (bits, recipe)
    )
    assert all(site.method == "sequential_mse" and site.integers is not None for site in asked.constants().values())
    scales = [{name: site.params.scale for name, site in p.constants().items() if site.params} for p in (plain, asked)]
    assert any(not np.array_equal(scales[0][name], scales[1][name]) for name in scales[0])
    assert not any("sequential_mse" in note for note in asked.notes)


def test_no_samples_are_one_error(tmp_path: Path) -> None:
    model = attention(tmp_path / "m.onnx")
    with pytest.raises(RecipeError, match="range sequential_mse of weights needs samples"):
        fewbit.quantize(model, recipe={"base": "int4-weights", "rules": [SCALES]}, verify=False)


def test_weights_that_are_not_searched_are_noted(tmp_path: Path) -> None:
    model = conv_relu_conv(tmp_path / "m.onnx")
    recipe = {"base": "w4a8", "rules": [SCALES]}
    made = fewbit.quantize(model, data=samples(4, 0), recipe=recipe, effort="fast", min_sqnr=0, verify=False)
    assert any("not of sequential_mse: constant" in note for note in made.plan.notes)
