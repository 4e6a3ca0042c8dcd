"""A hub as a torch module: what it is made of, what can be asked of it, and what hooks see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from fewbit.errors import DataError, ModelError
from fewbit.graph.load import load
from tests.models import Builder, attention, conv_relu_conv

torch = pytest.importorskip("torch")

from fewbit.torchgraph.module import OUTPUT, to_torch  # noqa: E402


@pytest.fixture
def convs(tmp_path: Path) -> Path:
    return conv_relu_conv(tmp_path / "m.onnx")


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def names(path: Path) -> tuple[str, str, str, str]:
    """First convolution, its weight, its output, the activation's output."""
    first, relu, _ = load(path).nodes()
    return str(first.name), str(first.inputs[1].name), str(first.outputs[0].name), str(relu.outputs[0].name)


def test_the_numbers_are_those_of_onnx_runtime(convs: Path) -> None:
    (y,) = to_torch(convs)(image())
    (expected,) = ort.InferenceSession(convs).run(None, {"x": image().numpy()})
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_weights_are_parameters_and_learn(convs: Path) -> None:
    module = to_torch(convs)
    assert set(module.weights()) == {f"constant{i}" for i in range(4)} == {n for n, _ in module.named_parameters()}
    module(image())[0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_what_is_trainable_can_be_chosen(convs: Path) -> None:
    assert list(to_torch(convs, trainable=False).parameters()) == []
    assert list(to_torch(convs, trainable=["constant1"]).weights()) == ["constant1"]
    with pytest.raises(ModelError, match="'nothing' cannot be trained"):
        to_torch(convs, trainable=["nothing"])


def test_names_that_torch_forbids(tmp_path: Path) -> None:
    b = Builder()
    for name in ("a.b", "a_b", "forward"):
        b.constant(np.full(4, 2, np.float32), name)
    y = b.node("PRelu", [b.node("PRelu", ["x", "a.b"]), "a_b"])
    b.node("PRelu", [y, "forward"], "y")
    module = to_torch(b.save(tmp_path / "m.onnx", {"x": (1, 4)}, ["y"]))
    assert module.torch_names == {"a.b": "a_b", "a_b": "a_b_1", "forward": "forward_1"}
    assert module(torch.full((1, 4), -1.0))[0].tolist() == [[-8.0] * 4]
    assert set(module.state_dict()) == {"a_b", "a_b_1", "forward_1"}


def test_capture_and_run_from_the_middle(convs: Path) -> None:
    module = to_torch(convs)
    _, _, raw, hidden = names(convs)
    (y,), seen = module(image(), capture=[raw, hidden])
    assert torch.equal(seen[hidden], seen[raw].relu())
    assert torch.equal(module.run({hidden: seen[hidden]}, ["y"])["y"], y)
    assert torch.equal(module.run({"x": image()}, [hidden])[hidden], seen[hidden])
    with pytest.raises(ModelError, match="the values 'x' are needed, and only nothing was given"):
        module.run({}, ["y"])
    with pytest.raises(ModelError, match="no values named 'relu'"):
        module.run({"x": image()}, ["relu"])


def test_hooks_on_edges_and_weights(convs: Path) -> None:
    module = to_torch(convs)
    conv, weight, raw, hidden = names(convs)
    (before,) = module(image())
    hooks = [module.hook(weight, torch.zeros_like), module.hook(hidden, lambda v: v + 1)]
    (_,), seen = module(image(), capture=[raw, hidden])
    bias = module.weights()["constant1"].reshape(1, -1, 1, 1).expand_as(seen[raw])
    torch.testing.assert_close(seen[raw], bias)
    assert torch.equal(seen[hidden], seen[raw].relu()), "captured values are those before hooks"
    for hook in hooks:
        hook.remove()
    assert torch.equal(module(image())[0], before)
    with pytest.raises(ModelError, match="not set any more"):
        hooks[0].remove()
    with pytest.raises(ModelError, match="no hook can be set on 'nowhere'"):
        module.hook("nowhere", torch.relu)
    with pytest.raises(ModelError, match=r"'x' is not read by 'Relu_1'; it is by \['Conv_0'\]"):
        module.hook("x", torch.relu, readers=["Relu_1"])
    assert conv == "Conv_0"


def test_a_hook_for_some_readers_is_computed_once(tmp_path: Path) -> None:
    b = Builder()
    b.node("Neg", ["x"], "a")
    b.node("Abs", ["x"], "b")
    b.node("Identity", ["x"], "c")
    module = to_torch(load(b.save(tmp_path / "m.onnx", {"x": (2,)}, ["a", "b", "c"]), normalize=False))
    calls = []

    def double(v: torch.Tensor) -> torch.Tensor:
        calls.append(v)
        return 2 * v

    module.hook("x", double, readers=["Neg_0", "Abs_1"])
    a, absolute, c = module(torch.tensor([1.0, -3.0]))
    assert (a.tolist(), absolute.tolist(), c.tolist()) == ([-2.0, 6.0], [2.0, 6.0], [1.0, -3.0])
    assert len(calls) == 1


def test_the_output_of_the_graph_is_a_reader(convs: Path) -> None:
    module = to_torch(convs)
    (before,) = module(image())
    module.hook("y", lambda v: v + 1, readers=[OUTPUT])
    (after,), seen = module(image(), capture=["y"])
    assert torch.equal(after, before + 1) and torch.equal(seen["y"], before)


def test_a_hook_that_is_a_module_is_part_of_it(convs: Path) -> None:
    module = to_torch(convs, trainable=False)
    hook = module.hook("x", torch.nn.PReLU())
    assert [n for n, _ in module.named_parameters()] == ["hook_x.weight"]
    module(image())[0].sum().backward()
    assert next(module.parameters()).grad is not None
    hook.remove()
    assert list(module.parameters()) == []


def test_a_matmul_and_its_bias_are_one_linear_layer_unless_somebody_looks_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = Builder()
    b.node("Add", [b.constant(np.float32([1, 2, 3])), b.node("MatMul", ["x", b.weight(4, 3)], "product")], "y")
    module = to_torch(load(b.save(tmp_path / "m.onnx", {"x": (5, 2, 4)}, ["y"]), normalize=False))
    linear, biases = torch.nn.functional.linear, []

    def watched(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        biases.append(bias is not None)
        return linear(x, w, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    x = torch.randn(5, 2, 4)
    (y,) = module(x)
    (again,), seen = module(x, capture=["product"])
    torch.testing.assert_close(y, again)
    torch.testing.assert_close(seen["product"] + torch.tensor([1.0, 2, 3]), y)
    module.hook("product", torch.zeros_like)
    assert module(x)[0][0, 0].tolist() == [1, 2, 3]
    assert biases == [True, False, False]


def test_inputs(convs: Path) -> None:
    module = to_torch(convs)
    assert torch.equal(module(x=image())[0], module(image())[0])
    for inputs, named in (((), {}), ((image(), image()), {}), ((), {"z": image()}), ((image(),), {"x": image()})):
        with pytest.raises(DataError, match="the model has the inputs x; "):
            module(*inputs, **named)
    with pytest.raises(
        ModelError, match=r"Conv node 'Conv_0' cannot run on float32\(2, 4, 8, 8\), float32\(8, 3, 3, 3\)"
    ):
        module(torch.zeros(2, 4, 8, 8))


def test_values_are_freed_when_their_last_reader_has_run(tmp_path: Path) -> None:
    import weakref

    b = Builder()
    value = "x"
    for _ in range(4):
        value = b.node("Sigmoid", [value])
    b.node("Identity", [value], "y")
    module = to_torch(load(b.save(tmp_path / "m.onnx", {"x": (2,)}, ["y"]), normalize=False))
    made: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def count(v: torch.Tensor) -> torch.Tensor:
        made.append(weakref.ref(v))
        alive.append(sum(ref() is not None for ref in made))
        return v

    for index in range(4):
        module.hook(f"value{index}", count)
    with torch.no_grad():
        module(torch.zeros(2))
    assert alive == [1, 1, 1, 1]


def test_missing_operators_are_named_together(tmp_path: Path) -> None:
    b = Builder()
    b.node("Own", [b.node("Strange", ["x"], domain="a.domain")], "y", domain="a.domain")
    model = b.proto({"x": (2,)}, ["y"])
    model.opset_import.extend([__import__("onnx").helper.make_opsetid("a.domain", 3)])
    with pytest.raises(ModelError) as caught:
        to_torch(load(model, normalize=False))
    assert "2 of this model's operators: Own of opset a.domain 3 (node 'Own_1'); Strange of opset a.domain 3" in str(
        caught.value
    )


def test_an_old_opset_is_declined_when_the_hub_was_not_normalized(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "y")
    path = b.save(tmp_path / "m.onnx", {"x": (2,)}, ["y"], opset=11)
    with pytest.raises(ModelError, match="knows operators from opset 13 on, and the model has 11"):
        to_torch(load(path, normalize=False))
    assert to_torch(path)(torch.tensor([-1.0, 2.0]))[0].tolist() == [0, 2]


@pytest.mark.parametrize("make", [conv_relu_conv, attention])
def test_torch_export(tmp_path: Path, make: object) -> None:
    path = make(tmp_path / "m.onnx")  # type: ignore[operator]
    x = image() if make is conv_relu_conv else torch.randn(1, 16, 32)
    module = to_torch(path).eval()
    program = torch.export.export(module, (x,), strict=False)
    torch.testing.assert_close(program.module()(x)[0], module(x)[0])
