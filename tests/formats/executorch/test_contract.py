"""The door to ExecuTorch keeps the contract of every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")

from fewbit.formats.executorch.door import write_executorch
from fewbit.formats.onnx.plain import lower_plain
from fewbit.graph.hub import Hub
from fewbit.graph.info import TensorInfo
from fewbit.plan.plan import Plan
from fewbit.runtimes.executorch import ExecuTorchSession, open_session
from fewbit.testing.formats import FormatContract
from tests.models import two_inputs


class TestExecuTorch(FormatContract):
    target = "executorch-xnnpack"
    suffix = ".pte"

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        """Two inputs, a residual addition, a concatenation, and two outputs."""
        return two_inputs().save(tmp_path / "m.onnx", {"x": (1, 3, 6, 6), "z": (1, 3, 6, 6)}, ["map", "shares"])

    def feeds(self) -> list[dict[str, np.ndarray]]:
        random = np.random.default_rng(0)
        return [{n: random.standard_normal((1, 3, 6, 6)).astype(np.float32) for n in ("x", "z")} for _ in range(6)]

    def lower(self, hub: Hub, plan: Plan) -> ir.Model:
        return lower_plain(hub, plan)

    def write(self, lowered: ir.Model, path: Path) -> None:
        path.write_bytes(write_executorch(lowered))

    def open(self, path: Path) -> ExecuTorchSession:
        return open_session(path, probe=False)

    def interface(self, path: Path) -> tuple[list[TensorInfo], list[TensorInfo]]:
        session = self.open(path)
        ends = (session.input_shapes(), session.output_shapes())
        inputs, outputs = ([TensorInfo(n, d, tuple(s)) for n, (d, s) in face.items()] for face in ends)
        return inputs, outputs
