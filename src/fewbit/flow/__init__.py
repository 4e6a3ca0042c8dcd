"""Jobs from beginning to end: what the command and the Python functions call."""

import fewbit.graph  # noqa: F401  (loads onnx_ir without what it does not need: a third of a second)
