"""What of the quantization is trained, and whether there is any."""

from __future__ import annotations

from torch import nn

from fewbit.torch.prepared import PreparedModule, prepared_part


def freeze(module: nn.Module, *, steps: bool = True, offsets: bool = True) -> None:
    """Say which parameters of the quantization are trained: True stops it, False lets it go on.

    The usual end of a training: scales keep still while the weights settle on their integers.

    Args:
        module: what `prepare` gave, or a module that holds it.
        steps: the scales of weights and activations. offsets: the zero points of activations.

    Raises:
        ModelError: there is no prepared module in it.
    """
    for quantizer in prepared_part(module).quantizers():
        quantizer.step.requires_grad_(not steps)
        if quantizer.offset is not None:
            quantizer.offset.requires_grad_(not offsets)


def quantization(module: nn.Module, *, enabled: bool) -> None:
    """Turn the simulated rounding off, to train in float first, or on again. What is exported is quantized either way.

    Scales learn nothing while it is off. After a training that moved the weights far, prepare the model anew: it then
    chooses ranges for them.

    Raises:
        ModelError: there is no prepared module in it.
    """
    part: PreparedModule = prepared_part(module)
    for quantizer in part.quantizers():
        quantizer.enabled = enabled
