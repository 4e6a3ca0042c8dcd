from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.capture.noise import Perturbation, noise_of_nodes
from fewbit.core.affine import fake_quantize, params_from_range
from fewbit.graph.load import load
from fewbit.spec import UINT8, QSpec
from tests.models import Builder

NARROW = QSpec(UINT8, symmetric=False)


def test_noise_is_that_of_quantizing_one_node(tmp_path: Path) -> None:
    """Two 1×1 convolutions; the first rounds its input and output, the second the output of the Relu that it absorbs."""
    random = np.random.default_rng(0)
    first, second = (random.standard_normal((4, 4, 1, 1)).astype(np.float32) for _ in range(2))
    b = Builder()
    b.node("Conv", ["x", b.constant(first)], "y")
    b.node("HardSwish", ["y"], "h")
    b.node("Relu", [b.node("Conv", ["h", b.constant(second)])], "z")
    hub = load(b.save(tmp_path / "m.onnx", {"x": (1, 4, 5, 5)}, ["z"], opset=17))
    convolutions = [node for node in hub.nodes() if node.op_type == "Conv"]
    x = random.standard_normal((1, 4, 5, 5)).astype(np.float32)
    of_x, of_y, of_z = (params_from_range(low, high, NARROW) for low, high in ((-2.0, 2.0), (-3.0, 4.0), (0.0, 4.0)))
    rough = (first * 1.1).astype(np.float32)
    made = str(convolutions[0].outputs[0].name)
    noise = noise_of_nodes(
        hub,
        [
            Perturbation(str(convolutions[0].name), of_x, None, 1, rough, None, (made, of_y, None)),
            Perturbation(str(convolutions[1].name), None, None, 1, second, None, ("z", of_z, None)),
        ],
        [{"x": x}],
    )

    def convolve(w: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.einsum("oi,nihw->nohw", w[:, :, 0, 0], values).astype(np.float32)

    def rest(y: np.ndarray) -> np.ndarray:
        return np.maximum(convolve(second, y * np.clip(y / 6 + 0.5, 0, 1)), 0)

    real = rest(convolve(first, x))
    given = rest(fake_quantize(convolve(rough, fake_quantize(x, of_x)), of_y))
    signal = (real**2).sum()
    wanted = [((given - real) ** 2).sum() / signal, ((fake_quantize(real, of_z) - real) ** 2).sum() / signal]
    assert list(noise.values()) == pytest.approx(wanted, rel=1e-3)
    assert wanted[0] > 0.01 and 0.0 < wanted[1] < wanted[0]
