from __future__ import annotations

from fewbit.flow.auto.describe import work_of


def test_kernels_of_packed_weights_multiply_integers_and_write_floats() -> None:
    layers = [
        {"name": name, "form": form, "activation": "float32"} for name, form in (("a", "weight_only"), ("b", "storage"))
    ]
    work = work_of(layers, {"a": (100.0, 10.0), "b": (20.0, 5.0)}, 1000)
    assert work.multiplications == {"int8": 100.0, "float32": 20.0}
    assert work.activation_bytes == 4 * 15.0
