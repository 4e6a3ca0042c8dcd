"""What is trained is what runs: a quantized module and the exported model give the same integers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fewbit import demo
from fewbit.flow.quantize import quantize
from fewbit.formats.onnx.lower import lower
from fewbit.graph.load import load
from fewbit.measure.compare import OutputComparison
from fewbit.runtimes.onnxruntime import open_session

torch = pytest.importorskip("torch")

from fewbit.torchgraph.quantized import QuantizedGraph  # noqa: E402
from fewbit.torchgraph.write_back import write_back  # noqa: E402
from tests.torchgraph.agreement import layers  # noqa: E402

CASES = [
    "cifar10_cct",
    "cifar10_resnet20",
    "mlperf_ic_resnet8",
    "mlperf_kws_dscnn",
    "mlperf_ad_autoencoder",
    "imagenet_efficientnet_lite0",
    "ocr_cls_mobilenetv3",
    "coco_yolox_nano",
]
LEAST = 40.0  # dB: a tenth of the noise that int8 itself leaves in the best of these networks


def module(model: str | Path, data: Any) -> QuantizedGraph:
    hub = load(model)
    plan = quantize(hub, data=data, effort="fast", min_sqnr=0, verify=False).plan
    return QuantizedGraph(hub, plan).eval()


def agreement(quantized: QuantizedGraph, feeds: list[Mapping[str, np.ndarray]]) -> list[OutputComparison]:
    session = open_session(lower(*write_back(quantized)))
    compared = [OutputComparison(name) for name in session.outputs]
    for feed in feeds:
        with torch.no_grad():
            ours = quantized(**{name: torch.from_numpy(array) for name, array in feed.items()})
        for output, mine, theirs in zip(compared, ours, session.run(feed), strict=True):
            output.update(mine.numpy(), theirs)
    return compared


@pytest.fixture(scope="module")
def digits_module() -> QuantizedGraph:
    return module(demo.MODEL, demo.CALIBRATION)


def images(count: int) -> list[dict[str, np.ndarray]]:
    pictures = np.load(demo.EVALUATION)["image"].astype(np.float32)
    return [{"image": pictures[i : i + 1]} for i in range(count)]


def test_a_module_gives_what_the_exported_model_gives(digits_module: QuantizedGraph) -> None:
    (output,) = agreement(digits_module, images(8))
    assert output.sqnr >= LEAST and output.samples == 8


def test_layers_are_exact(digits_module: QuantizedGraph) -> None:
    found = list(layers(digits_module, images(1)[0]))
    assert {layer.op for layer in found if layer.exact is not None} == {"Conv"}
    assert sum(layer.exact is not None for layer in found) >= 7
    assert [layer for layer in found if layer.exact] == []


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_networks(zoo: ModuleType, name: str) -> None:
    case = zoo.load(name)
    quantized = module(case.model, list(case.calibration(16)))
    feeds = list(islice(case.evaluation(), 4))
    for output in agreement(quantized, feeds):
        print(f"{name} {output.name}: {output.sqnr:.1f} dB")
        assert output.sqnr >= LEAST, output.name
    found = list(layers(quantized, feeds[0]))
    assert [layer for layer in found if layer.exact] == []
    for op in sorted({layer.op for layer in found}):
        own = [layer for layer in found if layer.op == op]
        print(
            f"  {op}: {len(own)} nodes, {sum(w.integers for w in own)} integers, {sum(w.fake for w in own)} otherwise"
        )
    assert any(layer.exact == 0 for layer in found)
