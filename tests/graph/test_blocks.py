"""Blocks end where one value carries everything."""

from __future__ import annotations

from pathlib import Path

from fewbit.graph.blocks import blocks
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from tests.models import Builder


def residual_model(path: Path) -> Hub:
    """A stem, two residual blocks of two convolutions, and a head; a mask that depends on no layer joins at the end."""
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(4, 3, 1, 1)], "c0")], "r0")
    for i in (1, 2):
        y = b.node("Relu", [b.node("Conv", [x, b.weight(4, 4, 1, 1)], f"c{i}a")], f"r{i}a")
        y = b.node("Conv", [y, b.weight(4, 4, 1, 1)], f"c{i}b")
        x = b.node("Relu", [b.node("Add", [x, y], f"s{i}")], f"r{i}")
    x = b.node("Mul", [b.node("GlobalAveragePool", [x], "pool"), b.node("Exp", ["mask"], "e")], "masked")
    b.node("Gemm", [b.node("Flatten", [x], "flat"), b.weight(4, 5), b.weight(5)], "y")
    return load(b.save(path, {"x": (1, 3, 4, 4), "mask": (1, 1, 1, 1)}, ["y"]), normalize=False)


def layers_of(hub: Hub) -> list[str]:
    return [str(node.name) for node in hub.nodes() if node.op_type in ("Conv", "Gemm")]


def made_by(hub: Hub, names: tuple[str, ...]) -> list[str]:
    return [str(n.outputs[0].name) for n in hub.nodes() if str(n.name) in names]


def test_a_residual_block_stays_whole(tmp_path: Path) -> None:
    hub = residual_model(tmp_path / "m.onnx")
    found = blocks(hub, layers_of(hub), most_layers=1)
    assert [made_by(hub, block.layers) for block in found] == [["c0"], ["c1a", "c1b"], ["c2a", "c2b"], ["y"]]
    assert [block.outputs for block in found] == [("r0",), ("r1",), ("flat",), ("y",)]
    assert found[1].inputs == ("r0",)
    assert "mask" in {name for block in found[2:] for name in block.inputs}


def test_every_node_is_in_one_block(tmp_path: Path) -> None:
    hub = residual_model(tmp_path / "m.onnx")
    for most in (1, 3, 100):
        names = [name for block in blocks(hub, layers_of(hub), most) for name in block.nodes]
        assert names == [str(node.name) for node in hub.nodes()]
    assert len(blocks(hub, layers_of(hub), 100)) == 1


def test_small_blocks_are_joined(tmp_path: Path) -> None:
    hub = residual_model(tmp_path / "m.onnx")
    found = blocks(hub, layers_of(hub), most_layers=3)
    assert [made_by(hub, block.layers) for block in found] == [["c0", "c1a", "c1b"], ["c2a", "c2b", "y"]]


def test_only_the_layers_asked_for_count(tmp_path: Path) -> None:
    hub = residual_model(tmp_path / "m.onnx")
    (block,) = blocks(hub, [layers_of(hub)[1]], most_layers=1)
    assert made_by(hub, block.layers) == ["c1a"] and block.inputs == ("mask", "x")
    assert blocks(hub, []) == []
