"""`fewbit.auto`: the best quantized form of a model for a target, within what its user can tolerate, and the proof."""

from __future__ import annotations

from fewbit.flow.auto.auto import AutoResult, auto

__all__ = ["AutoResult", "auto"]
