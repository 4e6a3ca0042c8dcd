"""What every export door must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.data import open_source
from fewbit.errors import PlanError
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.graph.hub import Hub
from fewbit.graph.info import TensorInfo
from fewbit.graph.load import load
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.plan.resolve import resolve
from fewbit.progress import SILENT
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.verify import compare_outputs
from fewbit.testing.stages import contents


class FormatContract:
    """Inherit, give a fixture `model` (the path of a float ONNX model) and the methods below; pytest runs the rest.

    recipe: one whose plans hold numbers. least_sqnr: dB that every output keeps against the float model.
    """

    recipe = "int8"
    target = "ort-cpu"
    suffix = ".onnx"
    least_sqnr = 25.0

    def lower(self, hub: Hub, plan: Plan) -> Any:
        """The exported model."""
        raise NotImplementedError

    def write(self, lowered: Any, path: Path) -> None:
        """Write it as a file."""
        raise NotImplementedError

    def open(self, path: Path) -> Any:
        """A session of the format's runtime with `outputs` and `run(feed) -> list of arrays`."""
        raise NotImplementedError

    def interface(self, path: Path) -> tuple[Sequence[TensorInfo], Sequence[TensorInfo]]:
        """The inputs and the outputs of a file."""
        raise NotImplementedError

    def feeds(self) -> Sequence[Mapping[str, np.ndarray[Any, Any]]]:
        """Samples that the model takes."""
        raise NotImplementedError

    def test_leaves_the_hub_and_the_plan(self, model: Path) -> None:
        hub, plan = self._case(model)
        before, given = _bytes(hub), contents(plan)
        self.lower(hub, plan)
        assert _bytes(hub) == before
        assert contents(plan) == given

    def test_gives_the_same_file_twice(self, model: Path, tmp_path: Path) -> None:
        hub, plan = self._case(model)
        files = [self._file(hub, plan, tmp_path / f"{name}{self.suffix}") for name in ("first", "second")]
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_refuses_a_plan_of_another_graph(self, model: Path) -> None:
        hub, plan = self._case(model)
        self._refuses(hub, replace(plan, fingerprint="0" * 64), "another graph")

    def test_refuses_a_plan_without_numbers(self, model: Path) -> None:
        hub = load(model)
        self._refuses(hub, resolve(hub, Recipe.get(self.recipe), target_for(self.target)), "not calibrated")

    def test_keeps_names_shapes_and_dtypes_of_inputs_and_outputs(self, model: Path, tmp_path: Path) -> None:
        hub, plan = self._case(model)
        inputs, outputs = self.interface(self._file(hub, plan, tmp_path / f"model{self.suffix}"))
        assert list(inputs) == hub.inputs
        assert list(outputs) == hub.outputs

    def test_runs_and_agrees_with_the_float_model(self, model: Path, tmp_path: Path) -> None:
        hub, plan = self._case(model)
        session = self.open(self._file(hub, plan, tmp_path / f"model{self.suffix}"))
        for output in compare_outputs(open_session(model), session, self.feeds()):
            assert output.sqnr >= self.least_sqnr, f"{output.name} keeps {output.sqnr:.1f} dB"

    def _case(self, model: Path) -> tuple[Hub, Plan]:
        hub = load(model)
        source = open_source(list(self.feeds()), inputs=hub_inputs(hub))
        job = Calibrator(hub, target_for(self.target), 1, SILENT, EFFORTS["fast"], source)
        return hub, job.plan(Recipe.get(self.recipe))

    def _file(self, hub: Hub, plan: Plan, path: Path) -> Path:
        self.write(self.lower(hub, plan), path)
        return path

    def _refuses(self, hub: Hub, plan: Plan, why: str) -> None:
        try:
            self.lower(hub, plan)
        except PlanError as error:
            assert why in str(error) and "\n" not in str(error), error
        else:
            raise AssertionError(f"a plan that is {why} must be a PlanError")


def _bytes(hub: Hub) -> bytes:
    import onnx_ir as ir

    return ir.to_proto(hub.model).SerializeToString()
