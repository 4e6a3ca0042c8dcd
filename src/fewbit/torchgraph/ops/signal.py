"""Fourier transforms and what goes with them. ONNX holds complex numbers as a last axis of two."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fewbit.torchgraph.dtypes import to_tensor
from fewbit.torchgraph.node import Host, Node, Row


def _transform(x: Tensor, axis: int, length: int | None, inverse: bool, one_sided: bool) -> Tensor:
    """x: (..., 1 or 2), transformed along `axis`; the result has 2 there, or 1 where a half spectrum became real."""
    signal = x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    if inverse and one_sided:
        return torch.fft.irfft(signal, length, axis).unsqueeze(-1)
    if inverse:
        return torch.view_as_real(torch.fft.ifft(signal, length, axis))
    spectrum = torch.fft.fft(signal, length, axis)
    return torch.view_as_real(spectrum.narrow(axis, 0, spectrum.shape[axis] // 2 + 1) if one_sided else spectrum)


def _dft(node: Node, x: Tensor, length: Host | None = None, axis: Host | None = None) -> Tensor:
    """The axis is an attribute before opset 20, and an input from there on."""
    along = (int(axis.item()) if axis is not None else node.get("axis", -2)) % x.dim()
    size = None if length is None else int(length.item())
    return _transform(x, along, size, bool(node["inverse"]), bool(node["onesided"]))


def _stft(node: Node, x: Tensor, step: Host, window: Tensor | None = None, length: Host | None = None) -> Tensor:
    """x: (batch, length, 1 or 2), or (batch, length); the result is (batch, frames, frequencies, 2)."""
    size = int(length.item()) if length is not None else len(window) if window is not None else x.shape[1]
    x = x.unsqueeze(-1) if x.dim() == 2 else x
    frames = x.unfold(1, size, int(step.item())).transpose(-1, -2)
    if window is not None:
        frames = frames * window.unsqueeze(-1)
    return _transform(frames, 2, None, False, bool(node["onesided"]))


_MEL, _HERTZ = 2595.0, 700.0  # mel = 2595 log10(1 + hertz / 700), of the operator's definition


def _mel_weights(node: Node, bins: Host, length: Host, rate: Host, low: Host, high: Host) -> Tensor:
    """(length / 2 + 1, bins): triangles between points that are evenly spaced in mel.

    Reference: the operator's reference implementation in onnx, which divides the range into bins + 2 steps.
    """
    count, size = int(bins.item()), int(length.item())
    low_mel, high_mel = (_MEL * np.log10(1 + edge.item() / _HERTZ) for edge in (low, high))
    mels = np.arange(count + 2) * ((high_mel - low_mel) / (count + 2)) + low_mel
    hertz = _HERTZ * (10 ** (mels / _MEL) - 1)
    points = ((size + 1) * hertz // rate.item()).astype(int)
    rows = np.arange(size // 2 + 1)[:, None]
    left, centre, right = points[:-2], points[1:-1], points[2:]
    rising = np.where(left == centre, rows == centre, (rows - left) / np.maximum(centre - left, 1))
    falling = (right - rows) / np.maximum(right - centre, 1)
    weights = np.where((rows >= left) & (rows <= centre), rising, 0.0)
    weights = np.where((rows >= centre) & (rows < right), falling, weights)
    return to_tensor(weights).to(node.dtype("output_datatype"))


ROWS: dict[str, Row] = {
    "DFT": Row(_dft, host=(1, 2)),
    "STFT": Row(_stft, host=(1, 3)),
    "MelWeightMatrix": Row(_mel_weights, host=(-1,)),
}
