"""The hub as a torch module: differentiable, with hooks where values are read. Needs the extra `torch`."""

from __future__ import annotations

from fewbit.extras import load_extra

load_extra("torch", "A model as a torch module")
