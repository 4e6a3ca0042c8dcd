"""Real models, in float and as `fewbit.quantize` makes them, compute in LiteRT what they do in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fewbit
from fewbit.formats.litert.read.door import read_litert
from fewbit.formats.litert.write import write_litert
from fewbit.graph.load import load
from tests.formats.litert.write.running import (
    KINDS,
    interpreter,
    kernels,
    one_sample,
    relative,
    run_file,
    run_model,
    sqnr,
)

pytest.importorskip("ai_edge_litert")

SMALL = ("mlperf_ad_autoencoder", "mlperf_ic_resnet8", "mlperf_kws_dscnn", "ocr_cls_mobilenetv3", "cifar10_resnet20")
LARGE = (
    "cifar10_cct",
    "imagenet_efficientnet_lite0",
    "llm_stories260k",
    "coco_yolox_nano",
    "stsb_minilm_l3",
    "silero_vad_lstm",
)
TRANSPOSES = {"cifar10_cct": 17, "llm_stories260k": 20, "stsb_minilm_l3": 12}
"""Of attention heads. Others have one, of the image that comes in, or none where it has one channel."""


@pytest.mark.zoo
@pytest.mark.parametrize("case", [*SMALL, *(pytest.param(c, marks=pytest.mark.slow) for c in LARGE)])
def test_float(zoo: ModuleType, case: str) -> None:
    hub = load(zoo.load(case).model)
    feed = one_sample(zoo, case)
    data = write_litert(hub, shapes={name: array.shape for name, array in feed.items()})
    expected = run_model(hub, feed)
    for kind in KINDS:
        outputs = run_file(data, feed, kind)
        for info, wanted in zip(hub.outputs, expected, strict=True):
            assert relative(outputs[info.name], wanted) <= 1e-4, kind
    assert kernels(data)["TRANSPOSE"] <= TRANSPOSES.get(case, 1)


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["mlperf_ad_autoencoder", "mlperf_ic_resnet8", "mlperf_kws_dscnn", "ocr_cls_mobilenetv3"]
)
def test_a_quantized_model(zoo: ModuleType, case: str, tmp_path: Path) -> None:
    """What was lowered for ONNX Runtime, uint8 and its spelling of HardSwish included: the same integers in XNNPACK."""
    out = tmp_path / "int8.onnx"
    source = f'{Path(zoo.__file__)}:calibration("{case}")'
    fewbit.quantize(zoo.load(case).model, data=source, recipe="int8", effort="fast", out=out)
    hub = load(out)
    feed = one_sample(zoo, case)
    data = write_litert(hub)
    name = hub.outputs[0].name
    assert sqnr(run_model(hub, feed)[0], run_file(data, feed, "AUTO")[name]) >= 60.0


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["model_float.tflite", "ref_int8.tflite"])
@pytest.mark.parametrize("case", ["mlperf_ad_autoencoder", "mlperf_ic_resnet8", "mlperf_kws_dscnn"])
def test_published_files_are_read_and_written_unchanged(zoo: ModuleType, case: str, name: str) -> None:
    """Other people's files: the same operators, and the same outputs bit for bit."""
    path = Path(zoo.__file__).parent / case / name
    before = path.read_bytes()
    after = write_litert(read_litert(path).model)
    assert kernels(after) == kernels(before)
    rng = np.random.default_rng(0)
    for kind in KINDS:
        one, other = interpreter(before, kind), interpreter(after, kind)
        detail = one.get_input_details()[0]
        sample = (rng.normal(size=detail["shape"]) * 40).clip(-128, 127).astype(detail["dtype"])
        for runtime in (one, other):
            runtime.set_tensor(runtime.get_input_details()[0]["index"], sample)
            runtime.invoke()
        outputs = [runtime.get_tensor(runtime.get_output_details()[0]["index"]) for runtime in (one, other)]
        assert outputs[0].dtype == outputs[1].dtype
        assert np.array_equal(*outputs)
