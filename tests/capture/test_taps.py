from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from fewbit.capture.taps import PHASE, add_taps
from fewbit.graph.load import load
from tests.models import Builder


def test_values_are_looked_at_before_the_next_layer_runs(tmp_path: Path) -> None:
    """Otherwise all activations stay in memory until the network has run, and the runtime decides the order."""
    b = Builder()
    value = "x"
    for index in range(4):
        value = b.node("Relu", [b.node("Conv", [value, b.weight(16, 16, 3, 3)])], f"r{index}")
    b.node("GlobalAveragePool", [value], "y")  # nobody looks at it, so it does not run
    hub = load(b.save(tmp_path / "m.onnx", {"x": (1, 16, 20, 20)}, ["y"]))
    names = ["r2", "r0", "r3", "r1"]
    shapes = {name: (1, 16, 18 - 2 * int(name[1]), 18 - 2 * int(name[1])) for name in names}
    model, taps = add_taps(hub, dict.fromkeys(names, 1), shapes, 1024)
    assert [tap.name for tap in taps] == ["r3", "r2", "r1", "r0"]
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    session.run(None, {"x": np.zeros((1, 16, 20, 20), np.float32), PHASE: np.zeros(1, np.int64)})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time")]
    assert "GlobalAveragePool" not in ran
    order = "".join({"Conv": "c", "ReduceMax": "m"}.get(op, "") for op in ran)
    assert order == "cmcmcmcm"
