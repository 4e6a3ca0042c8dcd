"""ExecuTorch's format. Needs the extra `executorch`."""

from __future__ import annotations

from fewbit.extras import load_extra

load_extra("executorch", "a model as ExecuTorch")
