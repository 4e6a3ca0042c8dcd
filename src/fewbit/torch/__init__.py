"""Quantization-aware training in a training loop of one's own: prepare a model, train it as any module, export it.

    import fewbit.torch

    model = fewbit.torch.prepare(model, example_inputs, data=samples)
    ...  # any loop, optimizer and loss
    fewbit.torch.export(model, "model-int8.onnx")

It needs the extra `torch`; see docs/qat.md.
"""

from __future__ import annotations

from fewbit.extras import load_extra

load_extra("torch", "fewbit.torch")

from fewbit.torch.controls import freeze, quantization  # noqa: E402
from fewbit.torch.export import export  # noqa: E402
from fewbit.torch.files import load, save  # noqa: E402
from fewbit.torch.prepare import prepare  # noqa: E402
from fewbit.torch.prepared import PreparedModule  # noqa: E402

__all__ = ["PreparedModule", "export", "freeze", "load", "prepare", "quantization", "save"]
