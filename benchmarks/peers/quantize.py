"""Quantize one model with one peer: quantize.py PEER MODEL ZOO CASE OUT SAMPLES (runs in the peers' environment)."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator

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


def nncf_accuracy(model: str, feeds: list[Feed], out: str) -> None:
    """With accuracy control: layers go back to float until the metric on every second evaluation sample has lost at
    most half a point (a hundredth of a perplexity)."""
    import nncf as library
    import onnx
    import onnxruntime

    case = sys.modules["zoo"].load(sys.argv[4])
    kept = [(feed, i) for i, feed in enumerate(case.evaluation()) if i % 2 == 0]
    sign = 1.0 if case.higher_is_better else -1.0

    real = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def validate(quantized: object, samples: Iterable[tuple[Feed, int]]) -> tuple[float, list[float]]:
        """The metric of some samples and of each, by which layers are ranked; what is no number for a single one is
        replaced by how far its first output is from the float model's."""
        proto = quantized if isinstance(quantized, onnx.ModelProto) else onnx.load(str(quantized))
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        outputs, indices, each = [], [], []
        for feed, i in samples:
            outputs.append(session.run(None, feed))
            indices.append(i)
            alone = sign * case.score(outputs[-1:], [i])
            if np.isnan(alone):
                alone = -float(np.mean((outputs[-1][0] - real.run(None, feed)[0]) ** 2))
            each.append(alone)
        return sign * case.score(outputs, indices), each

    proto = onnx.load(model)
    transformer = sum(node.op_type == "Softmax" for node in proto.graph.node) > 1
    options = {"model_type": library.ModelType.TRANSFORMER} if transformer else {}
    limit = 0.01 * case.float_metric if case.metric_name == "perplexity" else 0.005
    quantized = library.quantize_with_accuracy_control(
        proto,
        calibration_dataset=library.Dataset(feeds),
        validation_dataset=library.Dataset(kept, lambda sample: sample[0]),
        validation_fn=validate,
        max_drop=limit,
        subset_size=len(feeds),
        **options,
    )
    onnx.save(quantized, out)


def ort_nbits(algorithm: str) -> Callable[[str, list[Feed], str], None]:
    """4-bit MatMulNBits in blocks of 32: rounded to nearest, or by half-quadratic quantization."""

    def quantize(model: str, feeds: list[Feed], out: str) -> None:
        import onnx
        from onnxruntime.quantization import matmul_nbits_quantizer as library

        config = (
            library.HQQWeightOnlyQuantConfig(block_size=32, bits=4)
            if algorithm == "hqq"
            else library.DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=False, bits=4)
        )
        quantizer = library.MatMulNBitsQuantizer(
            onnx.load(model), block_size=32, is_symmetric=False, bits=4, algo_config=config
        )
        quantizer.process()
        onnx.save(quantizer.model.model, out)

    return quantize


def aimet(
    weights: str, scheme: str = "tf_enhanced", rounding: str = "nearest", iterations: int = 2000
) -> Callable[[str, list[Feed], str], None]:
    """Cross-layer equalization where weights have 8 bits; AdaRound and sequential MSE as its documentation runs them."""

    def quantize(model: str, feeds: list[Feed], out: str) -> None:
        import aimet_onnx
        import onnx
        from onnxsim import simplify

        shapes = {name: list(array.shape) for name, array in feeds[0].items()}
        same = all({name: list(array.shape) for name, array in feed.items()} == shapes for feed in feeds)
        proto, _ = simplify(onnx.load(model), overwrite_input_shapes=shapes if same else None)
        if weights == "int8":
            from aimet_onnx.cross_layer_equalization import equalize_model

            try:
                equalize_model(proto)
            except Exception as error:  # noqa: BLE001 - it does not know every graph
                print(f"note: not equalized, because of {error!r:.150}")
        simulation = aimet_onnx.QuantizationSimModel(
            proto, param_type=weights, activation_type="int8", quant_scheme=scheme, providers=["CPUExecutionProvider"]
        )
        if rounding == "seqmse":
            aimet_onnx.apply_seq_mse(simulation, feeds[:32])
        elif rounding == "adaround":
            aimet_onnx.apply_adaround(simulation, feeds, num_iterations=iterations)
        simulation.compute_encodings(feeds)
        onnx.save(simulation.to_onnx_qdq(prequantize_constants=True), out)

    return quantize


PEERS: dict[str, Callable[[str, list[Feed], str], None]] = {
    "ort-minmax": ort_static("MinMax"),
    "ort-percentile": ort_static("Percentile"),
    "ort-dynamic": ort_dynamic,
    "nncf": nncf,
    "nncf-accuracy": nncf_accuracy,
    "ort-nbits-rtn": ort_nbits("rtn"),
    "ort-nbits-hqq": ort_nbits("hqq"),
    "aimet": aimet("int8"),
    "aimet-w4": aimet("int4"),
    "aimet-w4-seqmse": aimet("int4", scheme="min_max", rounding="seqmse"),
    "aimet-w4-adaround": aimet("int4", rounding="adaround"),
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
