"""Quantize a network in Python, and see where the error arises.

python examples/quantize_and_compare.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import fewbit
from fewbit import demo


def main(folder: Path) -> None:
    out = folder / "digits-int8.onnx"
    # The network and its samples come with fewbit; a path to your own model and .npz goes here. Inner names are kept, so
    # that the two models can be compared layer by layer.
    result = fewbit.quantize(demo.MODEL, demo.CALIBRATION, "int8", out=out, keep_names=True)
    assert result.verification is not None  # there is one unless it was asked not to verify
    kernels = result.verification.kernels
    print(f"{result.float_bytes} bytes became {result.bytes}; it runs in {dict(kernels.integer)}")

    compared = fewbit.compare(demo.MODEL, out, demo.CALIBRATION)
    print(f"the scores keep {compared.outputs[0].sqnr:.1f} dB; the layers that lose most:")
    layers = [layer for layer in compared.layers if layer.lost is not None]
    for layer in sorted(layers, key=lambda layer: layer.lost or 0.0, reverse=True)[:3]:
        print(
            f"  {layer.node} ({layer.op}): {layer.comparison.sqnr:.1f} dB, {layer.lost:.1f} dB less than what it reads"
        )

    scored = fewbit.evaluate(out, demo.EVALUATION, "top1", baseline=demo.MODEL)
    print(f"top-1 {scored.value:.3f}, in float {scored.baseline:.3f}, on {scored.samples} images")

    result.plan.save(str(folder / "plan.json"))  # every decision with its reason; edit it, and give it back with plan=


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
