"""The hub on real models: the same numbers, nothing more to do the second time, in little time."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime as ort
import pytest

from fewbit.graph.facts import attention_mask_adds, detection_tails, find_patterns, state_inputs
from fewbit.graph.load import find_quantization, load
from fewbit.graph.ops import category_of, weight_of
from fewbit.graph.save import save, to_bytes

from .build import assert_same

pytestmark = pytest.mark.zoo

FOLDER = Path(os.environ.get("FEWBIT_ZOO", Path(__file__).parents[3] / "shared" / "zoo"))
CASES = sorted(path.parent.name for path in FOLDER.glob("*/model.onnx"))


@pytest.fixture(scope="module")
def cases() -> ModuleType:
    if not CASES:
        pytest.skip(f"no models in {FOLDER}; set FEWBIT_ZOO")
    spec = importlib.util.spec_from_file_location("zoo_cases", FOLDER / "zoo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo_cases"] = module
    spec.loader.exec_module(module)
    return module


def session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers(cases: Any, name: str, tmp_path: Path):
    case = cases.load(name)
    hub = load(case.model)
    save(hub.model, tmp_path / "compact.onnx", compact=True)
    before = session(Path(case.model).read_bytes())
    after = [session(to_bytes(hub.model)), session((tmp_path / "compact.onnx").read_bytes())]
    for index, feed in enumerate(case.calibration(3)):
        expected = before.run(None, feed)
        for other in after:
            for a, b in zip(expected, other.run(None, feed), strict=True):
                assert_same(a, b, 1e-5)
        if index == 20:
            break
    assert (tmp_path / "compact.onnx").stat().st_size < Path(case.model).stat().st_size


@pytest.mark.parametrize("name", CASES)
def test_twice_changes_nothing(name: str, tmp_path: Path):
    hub = load(FOLDER / name / "model.onnx")
    assert find_quantization(hub) is None
    save(hub.model, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    assert [o for o in again.log if o.applied] == []
    assert again.fingerprint() == hub.fingerprint()


@pytest.mark.parametrize("name", CASES)
def test_every_shape_and_weight_is_known(name: str):
    hub = load(FOLDER / name / "model.onnx")
    assert [v.name for n in hub.nodes() for v in n.outputs if v.name and hub.shape(v) is None] == []
    for n in hub.nodes():
        if n.op_type in ("Conv", "Gemm"):
            assert weight_of(n) is not None
        assert category_of(n) != "other"


def test_what_the_rules_find():
    """By structure: how many activations, masks, states and joined heads there are in all models together."""
    if not CASES:
        pytest.skip("no models")
    hubs = [load(FOLDER / name / "model.onnx") for name in CASES]
    kinds: dict[str, int] = {}
    for hub in hubs:
        for pattern in find_patterns(hub):
            kinds[pattern.kind] = kinds.get(pattern.kind, 0) + 1
    assert kinds == {"gelu": 7, "silu": 109, "hard_swish": 18, "rms_norm": 11}
    masks = [mask for hub in hubs for mask in attention_mask_adds(hub)]
    assert len(masks) == 8 and {mask.lowest for mask in masks} == {-10000.0}
    assert sorted((s.input, s.output) for hub in hubs for s in state_inputs(hub)) == [("c", "cn"), ("h", "hn")]
    tails = [tail for hub in hubs for tail in detection_tails(hub)]
    assert [len(tail.heads) for tail in tails] == [9]


def test_loading_is_fast():
    """18 MB, 100 nodes: the budget is 0.25 CPU-seconds."""
    path = max(
        FOLDER.glob("*/model.onnx"), key=lambda p: p.stat().st_size if p.stat().st_size < 20e6 else 0, default=None
    )
    if path is None:
        pytest.skip("no models")
    load(path)
    times = []
    for _ in range(3):
        start = time.process_time()
        load(path)
        times.append(time.process_time() - start)
    assert min(times) < 0.25
