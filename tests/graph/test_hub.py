from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fewbit.errors import ModelError
from fewbit.graph.info import TensorInfo
from fewbit.graph.load import load
from fewbit.graph.save import save

from .build import graph, model, node, weights


@pytest.fixture
def small() -> onnx.ModelProto:
    return model(
        [node("Conv", ["x", "w", "b"], ["c"]), node("Relu", ["c"], ["y"], name="relu")],
        ["x:f[N,3,8,8]"],
        ["y:f[N,4,6,6]"],
        {"w": weights(4, 3, 3, 3), "b": weights(4)},
    )


def test_ends_nodes_and_constants(small):
    hub = load(small, normalize=False)
    assert hub.inputs == [TensorInfo("x", np.dtype(np.float32), ("N", 3, 8, 8))]
    assert hub.outputs == [TensorInfo("y", np.dtype(np.float32), ("N", 4, 6, 6))]
    assert [n.op_type for n in hub.nodes()] == ["Conv", "Relu"]
    assert hub.opset == 17
    assert hub.constant(hub.value("b")).shape == (4,)
    assert hub.constant(hub.value("x")) is None
    assert hub.shape(hub.value("w")) == (4, 3, 3, 3)
    with pytest.raises(ModelError, match="no value named 'nope'"):
        hub.value("nope")


def test_value_finds_new_names(small):
    hub = load(small, normalize=False)
    value = hub.value("c")
    value.name = "renamed"
    with pytest.raises(ModelError):
        hub.value("c")
    assert hub.value("renamed") is value


def test_unnamed_nodes_get_stable_names(small):
    first, second = load(small, normalize=False), load(small, normalize=False)
    assert [n.name for n in first.nodes()] == ["Conv:c", "relu"] == [n.name for n in second.nodes()]


def test_names_are_unique_over_subgraphs():
    branch = [graph([node("Relu", ["x"], ["r"], name="n")], [], ["r:f"], name=f"b{i}") for i in range(2)]
    proto = model(
        [node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1], name="n")], ["x:f[2]", "c:b[]"], ["y:f"]
    )
    hub = load(proto, normalize=False)
    graphs = [hub.graph, *hub.graph.subgraphs()]
    values = [v.name for g in graphs for n in g for v in n.outputs]
    assert sorted(values) == ["r", "r_1", "y"]
    assert len({n.name for g in graphs for n in g}) == 3


def test_an_unwanted_output_stays_unnamed():
    proto = model(
        [node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=4)],
        ["x:f[3,1,5]"],
        ["h:f"],
        {"w": weights(1, 16, 5), "r": weights(1, 16, 4)},
    )
    assert [v.name for v in load(proto, normalize=False).nodes()[0].outputs] == ["", "h"]


class TestFingerprint:
    def test_same_after_saving(self, small, tmp_path):
        hub = load(small)
        for options in ({}, {"external_above": 10}):
            save(hub.model, tmp_path / "m.onnx", **options)
            assert load(tmp_path / "m.onnx").fingerprint() == hub.fingerprint()

    def test_ignores_documentation_and_node_names(self, small):
        before = load(small, normalize=False).fingerprint()
        small.doc_string = "about"
        small.producer_name = "someone"
        small.metadata_props.add(key="k", value="v")
        small.graph.node[0].doc_string = "conv"
        small.graph.node[0].name = "first"
        assert load(small, normalize=False).fingerprint() == before

    def test_ignores_how_a_constant_is_stored(self, small):
        before = load(small, normalize=False).fingerprint()
        tensor = small.graph.initializer[1]
        tensor.float_data.extend(np.frombuffer(tensor.raw_data, np.float32))
        tensor.ClearField("raw_data")
        assert load(small, normalize=False).fingerprint() == before

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.graph.node[0].attribute.append(onnx.helper.make_attribute("pads", [1, 1, 1, 1])),
            lambda m: setattr(m.graph.node[1], "op_type", "Sigmoid"),
            lambda m: setattr(m.graph.initializer[1], "raw_data", b"\1" * 16),
            lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 9),
            lambda m: setattr(m.opset_import[0], "version", 18),
            lambda m: m.graph.node[0].input.pop(),
        ],
    )
    def test_sees_what_is_computed(self, small, change):
        before = load(small, normalize=False).fingerprint()
        change(small)
        assert load(small, normalize=False).fingerprint() != before

    def test_sees_a_change_in_a_subgraph(self):
        def build(number: float) -> onnx.ModelProto:
            branches = [graph([node("Add", ["x", "k"], ["t"])], [], ["t:f"], {"k": np.float32(k)}) for k in (number, 2)]
            return model(
                [node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])], ["x:f", "c:b[]"], ["y:f"]
            )

        assert load(build(1)).fingerprint() == load(build(1)).fingerprint() != load(build(3)).fingerprint()

    def test_sees_a_replaced_tensor(self, small):
        hub = load(small)
        before = hub.fingerprint()
        hub.value("b").const_value = ir.Tensor(weights(4))
        assert hub.fingerprint() != before


def test_a_clone_is_independent(small):
    hub = load(small)
    before = hub.fingerprint()
    clone = hub.clone()
    assert clone.fingerprint() == before
    clone.value("b").const_value = ir.Tensor(weights(4))
    clone.nodes()[1].op_type = "Tanh"
    assert clone.fingerprint() != before and hub.fingerprint() == before


def test_loading_does_not_change_what_it_is_given(small):
    text = small.SerializeToString()
    load(small)
    assert small.SerializeToString() == text
    source = load(small, normalize=False)
    before = source.fingerprint()
    load(source)
    load(source.model)
    assert source.fingerprint() == before


def test_sympy_is_not_imported():
    import subprocess
    import sys

    code = (
        "import sys, fewbit.graph, onnx_ir, numpy as np\n"
        "from fewbit.graph.load import load\n"
        "from onnx import helper as h\n"
        "g = h.make_graph([h.make_node('Relu', ['x'], ['y'])], 'g', [h.make_tensor_value_info('x', 1, ['N', 2])],"
        " [h.make_tensor_value_info('y', 1, None)])\n"
        "hub = load(h.make_model(g, opset_imports=[h.make_opsetid('', 17)], ir_version=8))\n"
        "hub.clone().fingerprint()\n"
        "print('sympy.core' in sys.modules, onnx_ir.SymbolicDim('N') + 1, 'sympy.core' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "N", "+", "1", "True"]
