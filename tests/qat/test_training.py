"""`fewbit.torch`: a module that trains like any other, and what becomes of it."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from fewbit.errors import DataError, ModelError, OutputError, RecipeError, VerificationError
from tests.models import conv_relu_conv

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import fewbit.torch as qat  # noqa: E402
from tests.qat.nets import Named, Net, Pair  # noqa: E402


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def images(count: int = 16) -> Any:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def fresh(net: Any) -> Any:
    return qat.prepare(net, images(2), data=images())


@pytest.fixture
def prepared(fresh: Any) -> Any:
    return copy.deepcopy(fresh)


def train(module: Any, steps: int = 5) -> list[float]:
    """Losses of a few steps on wanted outputs that the network does not give yet."""
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-2)
    wanted = torch.arange(16) % 4
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(module(images()), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def same(one: Any, other: Any) -> bool:
    with torch.no_grad():
        return bool(torch.equal(one(images()), other(images())))


def test_it_begins_where_the_float_model_is(net: Any, prepared: Any) -> None:
    with torch.no_grad():
        real, rounded = net(images()), prepared(images())
    error = float((real - rounded).norm() / real.norm())
    assert 0 < error < 0.05


def test_the_model_given_is_not_changed(net: Any) -> None:
    before = copy.deepcopy(net.state_dict())
    train(qat.prepare(net, images(2), data=images()))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_training_lowers_the_loss_and_moves_scales_and_weights(prepared: Any) -> None:
    before = {name: value.clone() for name, value in prepared.state_dict().items() if hasattr(value, "clone")}
    losses = train(prepared, 20)
    assert losses[-1] < losses[0] - 0.01
    moved = {name for name, value in before.items() if not torch.equal(value, prepared.state_dict()[name])}
    assert any(name.endswith("step") for name in moved) and any(name.endswith("offset") for name in moved)
    assert any("first_weight" in name and "hook" not in name for name in moved)


def test_what_is_exported_is_what_was_trained(prepared: Any, tmp_path: Path) -> None:
    train(prepared)
    result = qat.export(prepared, tmp_path / "q.onnx")
    prepared.eval()
    with torch.no_grad():
        expected = prepared(images()).numpy()
    (given,) = ort.InferenceSession(tmp_path / "q.onnx").run(None, {"x": images().numpy()})
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
    assert result.path == tmp_path / "q.onnx" and result.verification.kernels.integer["QLinearConv"] == 2
    assert not result.verification.synthetic and not result.verification.kernels.float_heavy
    assert any("of the trained module" in note for note in result.notes)


def test_an_export_is_compared_in_evaluation_mode(prepared: Any, tmp_path: Path) -> None:
    prepared.train()
    prepared.quantizers()[0].eval()
    modes = [part.training for part in prepared.modules()]
    seen: list[bool] = []
    prepared.quantized.register_forward_pre_hook(lambda part, _: seen.extend(p.training for p in part.modules()))
    qat.export(prepared, tmp_path / "q.onnx")
    assert seen and not any(seen)
    assert [part.training for part in prepared.modules()] == modes and set(modes) == {True, False}


def test_it_can_begin_without_samples(net: Any) -> None:
    module = qat.prepare(net, images(2), data="synthetic", limit=2)
    assert module.plan.calibration["synthetic"] == "the statistics of 1 batch normalization"
    assert any("no real data was seen" in note for note in module.plan.notes)


def test_constants_that_stay_float_are_exported_as_trained(tmp_path: Path, net: Any) -> None:
    module = qat.prepare(net, images(2), data=images(), exclude=["Gemm"])
    train(module)
    qat.export(module, tmp_path / "q.onnx")
    module.eval()
    with torch.no_grad():
        expected = module(images()).numpy()
    (given,) = ort.InferenceSession(tmp_path / "q.onnx").run(None, {"x": images().numpy()})
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_copies_are_independent_and_the_same(prepared: Any, duplicate: Any) -> None:
    train(prepared)
    qat.freeze(prepared, offsets=False)
    twin = duplicate(prepared.eval())
    assert same(prepared, twin) and not twin.training
    frozen = [name for name, p in twin.named_parameters() if not p.requires_grad]
    assert frozen and all(name.endswith("step") for name in frozen)
    train(twin)
    assert not same(prepared, twin)


def test_a_state_goes_into_a_module_prepared_alike(net: Any, prepared: Any) -> None:
    train(prepared)
    file = io.BytesIO()
    torch.save(prepared.state_dict(), file)
    file.seek(0)
    other = qat.prepare(net, images(2), data=images())
    assert not same(prepared, other)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert same(prepared, other)


def test_a_state_of_something_else_is_refused(net: Any, prepared: Any) -> None:
    with pytest.raises(ModelError, match="not of a prepared module"):
        prepared.load_state_dict(net.state_dict())
    wider = qat.prepare(Net(8).eval(), images(2), data=images())
    with pytest.raises(ModelError, match="of another graph"):
        prepared.load_state_dict(wider.state_dict())
    partly = qat.prepare(net, images(2), data=images(), exclude=["Gemm"])
    with pytest.raises(ModelError, match="another plan"):
        prepared.load_state_dict(partly.state_dict())
    holder = torch.nn.Sequential(prepared)
    with pytest.raises(ModelError, match="of another graph"):
        holder.load_state_dict(torch.nn.Sequential(wider).state_dict())


def test_files_load_in_another_process(prepared: Any, tmp_path: Path) -> None:
    train(prepared)
    qat.save(prepared, tmp_path / "m.pt")
    torch.save((images(), prepared(images()).detach()), tmp_path / "io.pt")
    code = (
        "import sys, torch, fewbit.torch as qat; x, y = torch.load(sys.argv[2]); m = qat.load(sys.argv[1]); "
        "assert m.training and torch.equal(m(x), y)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.pt"), str(tmp_path / "io.pt")], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_files_that_are_something_else(prepared: Any, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("nothing")
    torch.save({"a": 1}, tmp_path / "dict.pt")
    for name in ("text.pt", "dict.pt"):
        with pytest.raises(ModelError, match="is no prepared module"):
            qat.load(tmp_path / name)
    torch.save(Net(), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"it refers to tests\.qat\.nets\.Net; give what fewbit\.torch\.save wrote"):
        qat.load(tmp_path / "whole.pt")
    with pytest.raises(ModelError, match="cannot be read"):
        qat.load(tmp_path / "none.pt")
    with pytest.raises(OutputError, match="does not exist"):
        qat.save(prepared, tmp_path / "no" / "m.pt")


def test_everything_moves_to_another_device(prepared: Any) -> None:
    # The device meta has shapes and no numbers: a tensor that stayed behind would be refused beside one of it.
    y = copy.deepcopy(prepared).to("meta")(images().to("meta"))
    assert y.device.type == "meta" and y.shape == (16, 4)


def test_frozen_steps_keep_still_and_thaw(prepared: Any) -> None:
    qat.freeze(prepared)
    before = {n: p.clone() for n, p in prepared.named_parameters() if n.endswith(("step", "offset"))}
    train(prepared)
    assert before and all(torch.equal(p, before[n]) for n, p in prepared.named_parameters() if n in before)
    qat.freeze(prepared, steps=False, offsets=False)
    assert all(p.requires_grad for p in prepared.parameters())


def test_without_quantization_it_is_the_float_model(net: Any, prepared: Any) -> None:
    qat.quantization(prepared, enabled=False)
    with torch.no_grad():
        off = prepared(images())
        # weights lie where they round to the integers of the plan, up to half a step from where they were
        assert float((net(images()) - off).norm() / off.norm()) < 0.02
    train(prepared)
    assert all(q.step.grad is None for q in prepared.quantizers())
    assert not same(prepared, _enabled(copy.deepcopy(prepared)))


def _enabled(module: Any) -> Any:
    qat.quantization(module, enabled=True)
    return module


def test_outputs_have_the_structure_of_the_original() -> None:
    module = Named().eval()
    prepared = qat.prepare(module, images(2), data=images())
    found = prepared(images())
    assert list(found) == ["scores", "parts"] and isinstance(found["parts"], tuple) and found["parts"][1] is None
    assert found["scores"].shape == (16, 4) and found["parts"][0].shape == (16, 8)
    assert list(pickle.loads(pickle.dumps(prepared))(images())) == ["scores", "parts"]


def test_arguments_by_place_and_name() -> None:
    a, b = torch.randn(16, 6), torch.randn(16, 6)
    prepared = qat.prepare(Pair().eval(), (a[:2], b[:2], 2.0), data={"a": a.numpy(), "b": b.numpy()})
    y = prepared(a, b)
    assert torch.equal(y, prepared(b=b, a=a)) and torch.equal(y, prepared(a, b, 2.0))
    assert not torch.equal(y, prepared(b, a))
    for arguments, named, message in (
        ((a,), {}, "b is missing"),
        ((a, b, 3.0), {}, "an argument is 3.0 where the example had 2.0"),
        ((a, 1.0), {}, "an argument is 1.0 where the example had a tensor"),
        ((a, b), {"c": a}, "c by name"),
        ((a, b), {"a": a}, "a by name"),
    ):
        with pytest.raises(DataError, match=message):
            prepared(*arguments, **named)


def test_models_in_files(tmp_path: Path) -> None:
    path = conv_relu_conv(tmp_path / "m.onnx")
    x = torch.randn(8, 3, 8, 8)
    prepared = qat.prepare(path, data=x)
    assert prepared(x).shape == prepared(x=x).shape == (8, 4, 8, 8)
    prepared(x).sum().backward()
    qat.export(prepared, tmp_path / "q.onnx")


def test_samples_as_loaders_give_them(net: Any) -> None:
    labelled = torch.utils.data.TensorDataset(images(), torch.zeros(16))
    plans = [
        qat.prepare(net, images(2), data=data).plan
        for data in (images(), images().numpy(), torch.utils.data.DataLoader(labelled, batch_size=5), [images()])
    ]
    scales = [{n: s.params.scale.tobytes() for n, s in plan.sites.items()} for plan in plans]
    assert all(found == scales[0] for found in scales)
    assert {plan.calibration["samples"] for plan in plans} == {16}


def test_example_inputs_serve_with_a_warning(net: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="example inputs alone"):
        prepared = qat.prepare(net, images(2))
    assert any("example inputs alone" in note for note in prepared.plan.notes)
    with pytest.raises(DataError, match="needs samples"):
        qat.prepare(conv_relu_conv(tmp_path / "m.onnx"))
    with pytest.raises(DataError, match="example_inputs="):
        qat.prepare(net, data=images())


def test_bad_arguments(net: Any, prepared: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fewbit\.torch\.prepare"):
        qat.export(net, tmp_path / "q.onnx")
    for name in ("litert", "x"):
        with pytest.raises(
            RecipeError, match=f"format '{name}': the module was prepared for target ort-cpu, which takes onnx"
        ):
            qat.export(prepared, tmp_path / "q", format=name)
    with pytest.raises(OutputError, match="does not exist"):
        qat.export(prepared, tmp_path / "no" / "q.onnx")
    with pytest.raises(RecipeError, match="effort 'great' does not exist"):
        qat.prepare(net, images(2), data=images(), effort="great")
    with pytest.raises(ModelError, match="2 prepared modules"):
        qat.freeze(torch.nn.Sequential(prepared, copy.deepcopy(prepared)))
    with pytest.raises(DataError, match="holds none of the model's inputs x"):
        qat.prepare(net, images(2), data=[{"image": images(2)}])


def test_an_export_that_computes_something_else_is_refused(prepared: Any, tmp_path: Path) -> None:
    prepared.quantized.graph.hook(prepared.quantized.graph.output_names[0], lambda x: x + 100)
    with pytest.raises(VerificationError, match="dB of what the module gives"):
        qat.export(prepared, tmp_path / "q.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_few_bits_learn(net: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared = qat.prepare(net, images(2), recipe="w4a8", data=images())
    losses = train(prepared, 20)
    assert losses[-1] < losses[0]
    result = qat.export(prepared, tmp_path / "q.onnx")
    widths = {site.spec.dtype.bits for site in result.plan.constants().values() if site.spec is not None}
    assert 4 in widths
