"""Quantize one model with one peer: quantize.py PEER MODEL ZOO CASE OUT SAMPLES (runs in the peers' environment)."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np

Feed = dict[str, np.ndarray]


class Reader:
    """What onnxruntime.quantization reads samples from."""

    def __init__(self, feeds: list[Feed]) -> None:
        self.feeds = feeds
        self.rewind()

    def get_next(self) -> Feed | None:
        return next(self.iterator, None)

    def rewind(self) -> None:
        self.iterator: Iterator[Feed] = iter(self.feeds)

    def __len__(self) -> int:
        return len(self.feeds)


def ort_static(method: str) -> Callable[[str, list[Feed], str], None]:
    def quantize(model: str, feeds: list[Feed], out: str) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = out + ".prepared"
        try:
            quant_pre_process(model, prepared)
        except Exception as error:  # noqa: BLE001 - its symbolic shape inference fails on some models
            print(f"note: without symbolic shapes, because of {error!r:.150}")
            quant_pre_process(model, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            Reader(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
        )
        os.remove(prepared)

    return quantize


def ort_dynamic(model: str, feeds: list[Feed], out: str) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model, out, per_channel=True, weight_type=QuantType.QInt8)


def nncf(model: str, feeds: list[Feed], out: str) -> None:
    import nncf as library
    import onnx

    proto = onnx.load(model)
    transformer = sum(node.op_type == "Softmax" for node in proto.graph.node) > 1
    options = {"model_type": library.ModelType.TRANSFORMER} if transformer else {}
    onnx.save(library.quantize(proto, library.Dataset(feeds), subset_size=len(feeds), **options), out)


PEERS: dict[str, Callable[[str, list[Feed], str], None]] = {
    "ort-minmax": ort_static("MinMax"),
    "ort-percentile": ort_static("Percentile"),
    "ort-dynamic": ort_dynamic,
    "nncf": nncf,
}


def main() -> None:
    peer, model, folder, case, out, samples = sys.argv[1:7]
    spec = importlib.util.spec_from_file_location("zoo", os.path.join(folder, "zoo.py"))
    assert spec is not None and spec.loader is not None
    zoo = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = zoo
    spec.loader.exec_module(zoo)
    PEERS[peer](model, list(zoo.load(case).calibration(int(samples))), out)


main()
