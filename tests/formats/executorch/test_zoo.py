"""Real models, in float and as `fewbit.quantize` makes them, compute in ExecuTorch what they do in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")

import fewbit
from fewbit.formats.executorch.door import convert
from fewbit.formats.onnx.exact import with_integer_arithmetic
from fewbit.graph.load import load
from fewbit.graph.save import to_bytes
from fewbit.runtimes.executorch import open_session
from fewbit.runtimes.executorch_ops import executed_ops
from tests.formats.litert.write.running import one_sample, run_model, sqnr

SMALL = ("mlperf_ad_autoencoder", "mlperf_ic_resnet8", "mlperf_kws_dscnn", "ocr_cls_mobilenetv3", "cifar10_resnet20")
LARGE = ("cifar10_cct", "stsb_minilm_l3", "imagenet_efficientnet_lite0", "llm_stories260k", "coco_yolox_nano")
PARTS = {"cifar10_resnet20": 3, "cifar10_cct": 12, "stsb_minilm_l3": 8, "llm_stories260k": 33, "coco_yolox_nano": 3}
"""Parts of XNNPACK in the float file, between what it leaves: LayerNormalization, steps of Slice, Resize, integers."""

DEEP = {"imagenet_efficientnet_lite0": 25.0}
"""dB where a network turns one other tie into noise as large as that of its activations."""


@pytest.mark.zoo
@pytest.mark.parametrize("case", [*SMALL, *(pytest.param(c, marks=pytest.mark.slow) for c in LARGE)])
def test_float(zoo: ModuleType, case: str) -> None:
    hub = load(zoo.load(case).model)
    feed = one_sample(zoo, case)
    written = convert(hub, shapes={name: array.shape for name, array in feed.items()})
    outputs = open_session(written.data, probe=False).run(feed)
    for wanted, made in zip(run_model(hub, feed), outputs, strict=True):
        assert sqnr(wanted, made) >= 90.0
    assert executed_ops(written.data).partitions == PARTS.get(case, 1)


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize("case", [*SMALL, "cifar10_cct", "imagenet_efficientnet_lite0"])
def test_a_model_quantized_for_onnx_runtime(zoo: ModuleType, case: str, tmp_path: Path) -> None:
    """uint8 activations, moved integers and its spelling of HardSwish included."""
    out = tmp_path / "int8.onnx"
    source = f'{Path(zoo.__file__)}:calibration("{case}")'
    fewbit.quantize(zoo.load(case).model, data=source, recipe="int8", effort="fast", out=out)
    hub = load(out)
    feed = one_sample(zoo, case)
    written = convert(hub, shapes={name: array.shape for name, array in feed.items()})
    (made,) = open_session(written.data, probe=False).run(feed)
    assert sqnr(run_model(hub, feed)[0], made) >= DEEP.get(case, 40.0)
    (exact,) = run_model(to_bytes(with_integer_arithmetic(hub.model)), feed)
    assert sqnr(exact, made) >= 40.0


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize("case", ["mlperf_ad_autoencoder", "mlperf_ic_resnet8", "mlperf_kws_dscnn"])
def test_a_model_quantized_for_executorch(zoo: ModuleType, case: str, tmp_path: Path) -> None:
    source = f'{Path(zoo.__file__)}:calibration("{case}")'
    out = tmp_path / "int8.pte"
    result = fewbit.quantize(zoo.load(case).model, data=source, recipe="int8", effort="fast", out=out)
    assert min(output.sqnr for output in result.verification.simulation) >= 60.0
    assert executed_ops(out).partitions == 1
    assert not result.verification.kernels.float_heavy
