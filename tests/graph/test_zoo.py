"""The hub on real models: the same numbers, nothing more to do the second time, in little time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import ModuleType

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


def session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers(zoo: ModuleType, name: str, tmp_path: Path):
    case = zoo.load(name)
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


@pytest.mark.usefixtures("zoo")
def test_what_is_found_in_all_models_together():
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


@pytest.mark.usefixtures("zoo")
def test_loading_is_fast():
    """18 MB, 100 nodes: the budget is 0.25 CPU-seconds."""
    sizes = {path: path.stat().st_size for path in FOLDER.glob("*/model.onnx")}
    path = min(sizes, key=lambda p: abs(sizes[p] - 18e6))
    load(path)
    times = []
    for _ in range(3):
        start = time.process_time()
        load(path)
        times.append(time.process_time() - start)
    assert min(times) < 0.25
