"""Fake quantization is that of numpy, integer for integer, and its gradients are those of LSQ and LSQ+."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core import affine
from fewbit.core.affine import params_from_range
from fewbit.errors import RecipeError
from fewbit.spec import INT4, INT8, UINT4, UINT8, DType, QParams, QSpec

torch = pytest.importorskip("torch")

from fewbit.torchgraph.fake_quantize import FakeQuantize  # noqa: E402

UNEVEN = QSpec(UINT8, symmetric=False)


def params(spec: QSpec, scale: Any, zero: Any = 0) -> QParams:
    scale = np.asarray(scale, np.float32)
    return QParams(spec, scale, np.broadcast_to(np.asarray(zero, np.int32), scale.shape).copy())


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 8),
    st.booleans(),
    st.sampled_from([(), (1, -1), (1, 4), (-1, 1), (2, 3)]),
    st.integers(0, 10**6),
)
def test_integers_and_values_are_those_of_numpy(bits: int, symmetric: bool, block: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    x = (random.standard_normal((6, 10)) * 10.0 ** random.integers(-3, 3)).astype(np.float32)
    spec = QSpec(DType("int" if symmetric else "uint", bits), block, symmetric=symmetric)
    grid = affine.block_grid(x.shape, block)
    chosen = params_from_range(-random.random(grid) - 0.1, random.random(grid) + 0.1, spec)
    module = FakeQuantize(chosen, x.shape)
    assert np.array_equal(module.integers(torch.from_numpy(x)).numpy(), affine.quantize(x, chosen))
    assert np.array_equal(module(torch.from_numpy(x)).detach().numpy(), affine.fake_quantize(x, chosen))
    again = module.params()
    assert np.array_equal(again.scale, chosen.scale) and np.array_equal(again.zero_point, chosen.zero_point)


def test_division_is_not_multiplication_by_the_reciprocal() -> None:
    """The runtime divides: ties such as 0.15 / 0.1 fall to another side when multiplied by 1 / 0.1."""
    random = np.random.default_rng(0)
    scale = np.float32(random.uniform(0.01, 0.1))
    x = ((np.arange(200) + 0.5) * scale).astype(np.float32)
    chosen = params(UNEVEN, scale, 0)
    exact = affine.quantize(x, chosen)
    assert np.array_equal(FakeQuantize(chosen).integers(torch.from_numpy(x)).numpy(), exact)
    assert not np.array_equal(np.rint(x * (np.float32(1) / scale)), exact)


def test_gradients_are_those_of_lsq() -> None:
    """Literal: scale 0.5, int4. v = x / s is (0.6, -2.4, 9, -20); inside: round(v) − v, outside: 7 or −8."""
    module = FakeQuantize(params(QSpec(INT4), 0.5), elements=4)
    x = torch.tensor([0.3, -1.2, 4.5, -10.0], requires_grad=True)
    y = module(x)
    assert y.tolist() == [0.5, -1.0, 3.5, -4.0]
    y.backward(torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    assert x.grad is not None and x.grad.tolist() == [1.0, 10.0, 0.0, 0.0]
    by_scale = 1 * 0.4 + 10 * 0.4 + 100 * 7 + 1000 * -8
    assert module.step.grad.item() == pytest.approx(by_scale * (4 * 7) ** -0.5 * 0.5, rel=1e-5)  # scale = 0.5 · step


def test_gradients_of_the_offset_are_those_of_lsq_plus() -> None:
    """uint4, scale 0.5, zero point 3: β = −1.5. Outside of the range d/dβ = 1 and d/ds = q, inside d/dβ = 0."""
    module = FakeQuantize(params(QSpec(UINT4, symmetric=False), 0.5, 3), elements=4, learn_offset=True)
    x = torch.tensor([0.3, -1.2, 8.0, -10.0], requires_grad=True)
    y = module(x)
    assert y.tolist() == [0.5, -1.0, 6.0, -1.5]
    y.backward(torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    factor = (4 * 15) ** -0.5
    assert module.offset.grad.item() == pytest.approx((100 + 1000) * factor * 0.5, rel=1e-5)
    by_scale = 1 * 0.4 + 10 * 0.4 + 100 * 15 + 1000 * 0
    assert module.step.grad.item() == pytest.approx(by_scale * factor * 0.5, rel=1e-5)


def test_a_moved_offset_moves_the_zero_point_and_a_larger_step_keeps_the_lower_end() -> None:
    module = FakeQuantize(params(QSpec(UINT4, symmetric=False), 0.5, 4), learn_offset=True)
    with torch.no_grad():
        module.offset.fill_(1.0)
    assert module.params().zero_point == 3
    with torch.no_grad():
        module.offset.zero_()
        module.step.fill_(2.0)
    learned = module.params()
    assert learned.zero_point == 2 and learned.scale == np.float32(1.0)  # the lowest integer is still −2


def test_gradients_go_to_the_block_they_come_from() -> None:
    chosen = params(QSpec(INT8, (1, 2)), [[1.0, 2.0], [4.0, 8.0]])
    module = FakeQuantize(chosen, (2, 4))
    x = torch.tensor([[0.25, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    module(x).sum().backward()
    factor = (2 * 127) ** -0.5
    np.testing.assert_allclose(module.step.grad, np.array([[-0.25 * 1, 0], [0, -0.25 * 8]]) * factor, rtol=1e-6)


def test_half_scales_are_what_is_stored() -> None:
    module = FakeQuantize(params(QSpec(INT4, (1, -1)), [[0.1], [0.3]]), (2, 3), half_scales=True)
    assert np.array_equal(module.params().scale, np.float16([[0.1], [0.3]]).astype(np.float32))
    module(torch.ones(2, 3)).sum().backward()
    assert module.step.grad.abs().sum() > 0


def test_steps_never_become_negative_and_disabled_changes_nothing() -> None:
    module = FakeQuantize(params(QSpec(INT4), 0.5))
    x = torch.linspace(-3, 3, 7)
    with torch.no_grad():
        module.step.fill_(-1.0)
    assert torch.isfinite(module(x)).all() and module.params().scale > 0
    module.enabled = False
    assert torch.equal(module(x), x)


@pytest.mark.parametrize("spec", [QSpec(UINT4, codebook="nf4"), QSpec(DType.parse("float8e4m3"))])
def test_what_has_no_step_is_refused(spec: QSpec) -> None:
    with pytest.raises(RecipeError, match="affine integers"):
        FakeQuantize(params(spec, 1.0))
