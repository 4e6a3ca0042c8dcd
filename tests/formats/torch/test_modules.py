"""Modules of the kinds that people have: the hub computes the same, and leaves the user's object as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fewbit
from fewbit.errors import DataError, ModelError, RecipeError
from fewbit.graph.facts import tied_weights
from tests.formats.torch.networks import Recurrent, Small, agree, ids, image, rows, trained
from tests.graph.build import kinds


def test_a_cnn(cnn: tuple[Any, Any]) -> None:
    module, hub = cnn
    for batch in (1, 3):
        agree(hub, module, image(batch))
    assert [(i.name, i.shape) for i in hub.inputs] == [("image", ("batch", 3, 17, 17))]
    assert [o.name for o in hub.outputs] == ["scores", "inner.0", "inner.1"]
    assert not {"BatchNormalization", "Dropout", "Identity"} & set(kinds(hub))
    assert kinds(hub).count("Conv") == 5


def test_a_transformer_keeps_its_sizes_and_its_tie(transformer: tuple[Any, Any]) -> None:
    module, hub = transformer
    for batch, length in ((1, 4), (3, 9)):
        mask = torch.arange(length) >= length - 1
        agree(hub, module, ids(batch, length), mask.expand(batch, length).contiguous())
    assert [(i.name, i.dtype, i.shape) for i in hub.inputs] == [
        ("ids", np.dtype(np.int64), ("batch", "sequence")),
        ("mask", np.dtype(bool), ("batch", "sequence")),
    ]
    assert hub.outputs[0].shape == ("batch", "sequence", 5000)
    (tied,) = tied_weights(hub)
    assert [t.size for t in (v.const_value for v in hub.graph.initializers.values()) if t.size >= 5000 * 64] == [320000]
    assert tied in ("embedding.weight", "head.weight")


def test_recurrent_layers_with_a_list_of_inputs_and_a_tuple_of_outputs() -> None:
    module = trained(Recurrent())
    parts = [torch.randn(2, 3, 6), torch.randn(2, 4, 6)]
    hub = fewbit.load(module, example_inputs=(parts,))
    agree(hub, module, parts)
    agree(hub, module, [part[:1] for part in parts])
    assert kinds(hub).count("LSTM") == 2 and kinds(hub).count("GRU") == 1
    assert [o.name for o in hub.outputs] == ["output_0", "output_1"]


def test_arguments_by_name_as_arrays_and_with_defaults() -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor, *, scale: float = 2.0, other: torch.Tensor | None = None) -> torch.Tensor:
            return x * scale if other is None else x * scale + other

    hub = fewbit.load(Both(), example_inputs={"other": np.ones((2, 3)), "x": np.ones((2, 3))})
    assert {i.name for i in hub.inputs} == {"x", "other"}
    agree(fewbit.load(Both(), example_inputs=rows(2)), Both(), rows(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats_are_widened_in_a_copy(dtype: torch.dtype) -> None:
    module = trained(Small()).to(dtype)
    hub = fewbit.load(module, example_inputs=rows(2).to(dtype))
    assert all(p.dtype == dtype for p in module.parameters())
    agree(hub, trained(Small()).to(dtype).float(), rows(3))
    (note,) = (o.reason for o in hub.log if o.rule == "import")
    assert note == f"parameters in {dtype} were widened to float32, which changes none of them"


def test_the_users_module_is_left_as_it_was() -> None:
    module = trained(Small())
    module.train()
    module.first.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    hub = fewbit.load(module, example_inputs=rows(2))
    assert [part.training for part in module.modules()] == [True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    agree(hub, trained(Small()), rows(3))  # the hub has tensors of its own


def test_an_exported_program() -> None:
    module = trained(Small())
    program = torch.export.export(module, (rows(2),))
    hub = fewbit.load(program)
    agree(hub, module, rows(2))
    assert hub.inputs[0].shape == (2, 4)
    with pytest.raises(
        RecipeError, match="ExportedProgram is an exported program: its inputs and dynamic shapes are in it"
    ):
        fewbit.load(program, example_inputs=rows(2))


def test_a_program_that_computes_as_in_training_is_refused() -> None:
    program = torch.export.export(Small().train(), (rows(2),))
    with pytest.raises(
        ModelError, match=r"aten\.batch_norm is in training mode at .*networks\.py:\d+, in .*call \.eval\(\)"
    ):
        fewbit.load(program)


def test_dropout_that_forgets_the_mode_is_refused() -> None:
    class Random(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(x)

    with pytest.raises(ModelError, match=r"aten\.dropout is in training mode at .*test_modules\.py:\d+.*training=self"):
        fewbit.load(Random(), example_inputs=rows(2))


def test_dtypes_and_devices_that_cannot_be() -> None:
    with pytest.raises(ModelError, match=r"'first\.weight' is bfloat16, which no kernel takes: export .*\.float\(\)"):
        fewbit.load(torch.export.export(trained(Small()).bfloat16(), (rows(2).bfloat16(),)))
    with pytest.raises(ModelError, match=r"'first\.weight' is on the device meta, where tensors have no numbers: load"):
        fewbit.load(Small().to("meta"), example_inputs=rows(2))


def test_what_is_no_model() -> None:
    with pytest.raises(ModelError, match="Tensor is a Tensor, not a module"):
        fewbit.load(rows(2))
    with pytest.raises(
        DataError, match=r"needs example inputs .* --input-shape .*; forward takes \(x: Tensor\) -> Tensor"
    ):
        fewbit.load(Small())
    with pytest.raises(RecipeError, match="factory builds the module for a file of weights, and the model is Small"):
        fewbit.load(Small(), example_inputs=rows(2), factory=Small)


def test_quantized_in_one_call() -> None:
    module = trained(Small(64))
    data = [{"x": rows(count).numpy()} for count in range(1, 17)]
    result = fewbit.quantize(module, data)
    assert result.verification is not None and result.verification.outputs[0].sqnr > 30
    assert {"first", "second"} <= set(result.plan.nodes)
    assert {"first.weight", "second.weight"} <= set(result.plan.constants())
