"""Algorithms that decide something about a plan from data: one a file. They return decisions and run nothing."""

import fewbit.graph  # noqa: F401  (loads onnx_ir without what it does not need: a third of a second)
