"""Recurrent operators, written step by step, compute what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from fewbit.errors import ModelError
from fewbit.formats.litert.write import write_litert
from fewbit.graph.load import load
from tests.formats.litert.write.cases import w
from tests.formats.litert.write.running import KINDS, kernels, relative, run_file, run_model
from tests.graph.build import model, node

pytest.importorskip("ai_edge_litert")

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INPUT, BATCH = 6, 5, 2


def recurrent(op: str, length: int, *, states: bool = False, bias: bool = True, **options: Any) -> onnx.ModelProto:
    ways = 2 if options.get("direction") == "bidirectional" else 1
    gates = GATES[op] * HIDDEN
    names = ["h", "c"] if op == "LSTM" else ["h"]
    constants = {"w": w(ways, gates, INPUT), "r": w(ways, gates, HIDDEN, seed=1) / 2}
    if bias:
        constants["b"] = w(ways, 2 * gates, seed=2)
    inputs = ["x", "w", "r", "b" if bias else "", "", *(f"{n}0" if states else "" for n in names)]
    ends = [f"x:f[{length},{BATCH},{INPUT}]"]
    ends += [f"{n}0:f[{ways},{BATCH},{HIDDEN}]" for n in names] if states else []
    while not inputs[-1]:
        inputs.pop()
    outputs = ["y", *(f"{n}1" for n in names)]
    return model(
        [node(op, inputs, outputs, hidden_size=HIDDEN, **options)], ends, [f"{o}:f" for o in outputs], constants
    )


CASES: list[tuple[str, int, dict[str, Any]]] = [
    *((op, 4, {}) for op in GATES),
    *((op, 1, {"states": True}) for op in GATES),
    *((op, 3, {"states": True, "direction": "bidirectional"}) for op in GATES),
    *((op, 3, {"direction": "reverse", "bias": False}) for op in GATES),
    ("GRU", 4, {"linear_before_reset": 1}),
    ("GRU", 3, {"linear_before_reset": 1, "direction": "bidirectional", "states": True}),
]


@pytest.mark.parametrize(("op", "length", "options"), CASES)
def test_recurrent(op: str, length: int, options: dict[str, Any]) -> None:
    source = recurrent(op, length, **options)
    rng = np.random.default_rng(5)
    feed = {
        i.name: rng.normal(size=[d.dim_value for d in i.type.tensor_type.shape.dim]).astype(np.float32)
        for i in source.graph.input
    }
    data = write_litert(load(source))
    for kind in KINDS:
        outputs = run_file(data, feed, kind)
        for info, wanted in zip(source.graph.output, run_model(source, feed), strict=True):
            assert outputs[info.name].shape == wanted.shape
            assert relative(outputs[info.name], wanted) < 1e-5


@pytest.mark.parametrize("op", GATES)
def test_the_last_state_alone(op: str) -> None:
    """The outputs of all steps are not wanted, and not in the file."""
    source = recurrent(op, 4)
    source.graph.node[0].output[0] = ""
    del source.graph.output[0]
    feed = {"x": np.random.default_rng(5).normal(size=(4, BATCH, INPUT)).astype(np.float32)}
    data = write_litert(load(source))
    outputs = run_file(data, feed, "AUTO")
    for info, wanted in zip(source.graph.output, run_model(source, feed), strict=True):
        assert relative(outputs[info.name], wanted) < 1e-5
    assert "CONCATENATION" not in kernels(data)


def test_weights_are_there_once() -> None:
    """However many steps: two matrices, one product for all inputs and one a step."""
    source = recurrent("LSTM", 9)
    data = write_litert(load(source))
    assert kernels(data)["FULLY_CONNECTED"] == 10
    state = np.ascontiguousarray(w(1, 4 * HIDDEN, HIDDEN, seed=1)[0] / 2)
    assert data.count(state.tobytes()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations": ["Relu", "Tanh", "Tanh"]}, "activations are"),
        ({"clip": 1.0}, "clip=1.0"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        write_litert(load(recurrent("LSTM", 2, **options)))


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(ModelError, match="300 steps"):
        write_litert(load(recurrent("RNN", 300)))
