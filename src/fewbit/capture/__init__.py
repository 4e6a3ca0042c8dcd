"""Statistics of a float graph's activations, taken while samples stream through it once."""

import fewbit.graph  # noqa: F401  (loads onnx_ir without what it does not need: a third of a second)
