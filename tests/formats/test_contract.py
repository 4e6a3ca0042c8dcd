"""The export doors keep the contract of every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.flow.formats import FORMATS, Details
from fewbit.formats.onnx.lower import lower
from fewbit.graph.hub import Hub
from fewbit.graph.info import TensorInfo
from fewbit.graph.load import load
from fewbit.graph.save import save
from fewbit.plan.plan import Plan
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.session import Session
from fewbit.runtimes.table import open_model
from fewbit.testing.formats import FormatContract
from tests.models import Builder, two_inputs


def stored() -> Builder:
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(32, 3, 3, 3)])])
    b.node("Conv", [x, b.weight(4, 32, 3, 3), b.weight(4)], "y")
    return b


class TestOnnx(FormatContract):
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        sizes = ("N", 3, 6, 6)
        return two_inputs().save(tmp_path / "m.onnx", {"x": sizes, "z": sizes}, ["map", "shares"])

    def feeds(self) -> list[dict[str, np.ndarray]]:
        random = np.random.default_rng(0)
        return [{n: random.standard_normal((1, 3, 6, 6)).astype(np.float32) for n in ("x", "z")} for _ in range(6)]

    def lower(self, hub: Hub, plan: Plan) -> ir.Model:
        return lower(hub, plan)

    def write(self, lowered: ir.Model, path: Path) -> None:
        save(lowered, path, compact=True)

    def open(self, path: Path) -> Session:
        return open_session(path)

    def interface(self, path: Path) -> tuple[list[TensorInfo], list[TensorInfo]]:
        hub = load(path)
        return hub.inputs, hub.outputs


class TestOnnxWide(TestOnnx):
    recipe = "a16w8"
    least_sqnr = 30.0


class TestOnnxStored(TestOnnx):
    """Weights stored narrow: a model with one large enough."""

    recipe = "int8-weights"

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        return stored().save(tmp_path / "m.onnx", {"x": ("N", 3, 6, 6)}, ["y"])


class TestLiteRt(TestOnnx):
    """The same network with fixed sizes, which a LiteRT file has."""

    target = "litert-cpu"
    suffix = ".tflite"

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        pytest.importorskip("ai_edge_litert")
        b = two_inputs()
        return b.save(tmp_path / "m.onnx", {"x": (1, 3, 6, 6), "z": (1, 3, 6, 6)}, ["map", "shares"])

    def lower(self, hub: Hub, plan: Plan) -> ir.Model:
        return FORMATS["litert"].lower(hub, plan)

    def write(self, lowered: ir.Model, path: Path) -> None:
        assert FORMATS["litert"].write(lowered, path, Details()) == ()

    def open(self, path: Path) -> Session:
        return open_model(path)

    def interface(self, path: Path) -> tuple[list[TensorInfo], list[TensorInfo]]:
        from fewbit.formats.litert.read.door import read_litert

        hub = Hub(read_litert(path).model)
        return hub.inputs, hub.outputs


class TestLiteRtStored(TestLiteRt):
    recipe = "int8-weights"

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        pytest.importorskip("ai_edge_litert")
        return stored().save(tmp_path / "m.onnx", {"x": (1, 3, 6, 6)}, ["y"])
