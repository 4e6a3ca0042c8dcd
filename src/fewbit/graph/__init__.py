"""The hub: one model as an onnx-ir graph, with loading, saving, normalization and facts about its nodes."""

from __future__ import annotations

from fewbit.graph.lazy_ir import import_onnx_ir

import_onnx_ir()
