"""Models of MLPerf Tiny as their makers published them."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import fewbit
from tests.formats.litert.build import run_hub, run_litert

NAMES = ("mlperf_ad_autoencoder", "mlperf_ic_resnet8", "mlperf_kws_dscnn")


@pytest.mark.zoo
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("xnnpack", [False, True], ids=["reference", "xnnpack"])
def test_float(zoo: ModuleType, name: str, xnnpack: bool) -> None:
    path = zoo.HERE / name / "model_float.tflite"
    model = fewbit.load(path).model
    shape = model.graph.inputs[0].shape
    for seed in range(4):
        feed = [np.random.default_rng(seed).standard_normal([1, *shape.dims[1:]]).astype(np.float32)]
        for one, two in zip(run_hub(model, feed), run_litert(path.read_bytes(), feed, xnnpack=xnnpack), strict=True):
            assert np.abs(one - two).max() <= 1e-4 * np.abs(two).max()


@pytest.mark.zoo
@pytest.mark.parametrize("name", NAMES)
def test_int8(zoo: ModuleType, name: str) -> None:
    """The interpreter multiplies integers and rounds once, the hub multiplies floats: numbers that lie between two integers
    go either way. Behind a Softmax one step of its input, up to 0.18, is up to 0.18 / 4 of 1, which are 12 steps."""
    path = zoo.HERE / name / "ref_int8.tflite"
    model = fewbit.load(path).model
    shape = model.graph.inputs[0].shape
    for seed in range(4):
        feed = [np.random.default_rng(seed).integers(-128, 128, [1, *shape.dims[1:]]).astype(np.int8)]
        for one, two in zip(run_hub(model, feed), run_litert(path.read_bytes(), feed), strict=True):
            assert one.dtype == two.dtype == np.int8
            off = np.abs(one.astype(int) - two.astype(int))
            assert off.max() <= 12 and np.mean(off > 1) <= 0.2
