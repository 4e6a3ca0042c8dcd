"""Recipes and plans: what was asked for, and one entry for every place with the choice and its reason."""

import fewbit.graph  # noqa: F401  (loads onnx_ir without what it does not need: a third of a second)
