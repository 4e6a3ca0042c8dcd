"""Every kind of file gives the same model, whatever its name is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fewbit
from fewbit.errors import ModelError, RecipeError
from fewbit.formats.torch.kinds import Kind, kind_of
from fewbit.formats.torch.quiet import quiet
from fewbit.graph.hub import Hub
from tests.formats.torch.networks import Small, agree, rows, trained
from tests.graph.build import kinds

FACTORY = f"{Path(__file__).with_name('networks.py')}:Small"


def notes(hub: Hub) -> list[str]:
    return [outcome.reason for outcome in hub.log if outcome.rule == "import"]


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("program.pt2", Kind.PROGRAM, {}),
        ("scripted.pt", Kind.SCRIPT, {"example_inputs": rows(2)}),
        ("traced.pt", Kind.SCRIPT, {"example_inputs": {"x": rows(2)}}),
        ("weights.pth", Kind.PICKLE, {"example_inputs": rows(2), "factory": Small}),
        ("legacy.pth", Kind.PICKLE, {"example_inputs": rows(2), "factory": f"{FACTORY}(6)"}),
        ("weights.safetensors", Kind.SAFETENSORS, {"example_inputs": rows(2), "factory": f"{FACTORY}(width=6)"}),
    ],
)
def test_each_kind(name: str, kind: Kind, options: Any, small: tuple[Any, Path], tmp_path: Path) -> None:
    module, folder = small
    path = tmp_path / "of_any_name.onnx"
    shutil.copy(folder / name, path)
    assert kind_of(path) is kind
    hub = fewbit.load(path, **options)
    agree(hub, module, rows(1))
    agree(hub, module, rows(5))
    assert [str(node.name) for node in hub.nodes()] in (["first", "Relu", "second"], ["first", "relu", "second"])
    assert [info.name for info in (*hub.inputs, *hub.outputs)] == ["x", "output"] and notes(hub) == []


def test_a_checkpoint_of_a_training_run(small: tuple[Any, Path]) -> None:
    module, folder = small
    hub = fewbit.load(folder / "run.pt", example_inputs=rows(2), factory=Small)
    agree(hub, module, rows(3))
    assert notes(hub) == [
        "the weights are those under 'state_dict' of the checkpoint",
        "the names of the weights lost the 'module.' of DataParallel",
    ]


def test_torchscript_that_only_the_older_exporter_takes() -> None:
    class Until(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while bool(x.sum() < 100.0):
                x = x + torch.relu(self.step(x)) + 1.0
            return x

    module = trained(Until())
    with quiet():
        scripted = torch.jit.script(module)
    hub = fewbit.load(scripted, example_inputs=rows(2))
    agree(hub, module, rows(3))
    assert "Loop" in kinds(hub) and hub.outputs[0].name == "output"


def test_a_tied_weight_that_is_stored_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x)))

    module = trained(Tied())
    save_file({"a.weight": module.a.weight}, tmp_path / "tied.safetensors")
    agree(fewbit.load(tmp_path / "tied.safetensors", example_inputs=rows(2), factory=Tied), module, rows(3))


def test_weights_need_a_factory_that_fits(small: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = small
    path = folder / "weights.pth"
    with pytest.raises(
        RecipeError, match=r"weights\.pth holds 9 tensors \(first\.weight, first\.bias, norm\.weight and 6 mo"
    ):
        fewbit.load(path, example_inputs=rows(2))
    with pytest.raises(
        ModelError, match=r"do not fit Small: size mismatch for first\.weight: .*; give the factory the arg"
    ):
        fewbit.load(path, example_inputs=rows(2), factory=f"{FACTORY}(7)")
    with pytest.raises(
        ModelError, match=r"do not fit Linear: missing weight, bias; not in the module first\.weight, .* and 6"
    ):
        fewbit.load(path, example_inputs=rows(2), factory=lambda: nn.Linear(4, 3))
    with pytest.raises(RecipeError, match=r"the factory must give a torch\.nn\.Module, and gave int"):
        fewbit.load(path, example_inputs=rows(2), factory=lambda: 3)
    with pytest.raises(
        RecipeError, match=r"program\.pt2 is an exported program \(\.pt2\), which has its graph: give no facto"
    ):
        fewbit.load(folder / "program.pt2", factory=Small)
    torch.save({"lr": 0.1}, tmp_path / "settings.pt")
    with pytest.raises(
        ModelError, match=r"holds a float under 'lr', where weights are expected: save module\.state_dict"
    ):
        fewbit.load(tmp_path / "settings.pt", factory=Small)


def test_a_whole_module_needs_leave(small: tuple[Any, Path]) -> None:
    module, folder = small
    says = r"is refused: unpickling it would run Python code, it refers to tests\.formats\.torch\.networks\.Small; save the"
    with pytest.raises(ModelError, match=says):
        fewbit.load(folder / "whole.pt", example_inputs=rows(2))
    agree(fewbit.load(folder / "whole.pt", example_inputs=rows(2), allow_pickle=True), module, rows(3))
