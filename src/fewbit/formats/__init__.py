"""Import and export doors: thin translations between the hub and a file format."""

import fewbit.graph  # noqa: F401  (loads onnx_ir without what it does not need: a third of a second)
