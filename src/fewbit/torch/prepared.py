"""The module that `prepare` gives: a quantized graph behind the forward of the original."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from torch import Tensor, nn

from fewbit.errors import ModelError
from fewbit.graph.hub import Hub
from fewbit.plan.io import to_dict
from fewbit.plan.plan import Plan
from fewbit.torch.interface import Interface
from fewbit.torchgraph.fake_quantize import FakeQuantize
from fewbit.torchgraph.quantized import QuantizedGraph

_IDENTITY = "_extra_state"  # what torch appends to a module's prefix for its extra state


class PreparedModule(nn.Module):
    """A model with its quantization simulated, to be trained; made by `prepare` or `load`.

    quantized: the graph; its parameters are the weights and biases in float, and the steps and offsets of the quantization.
    interface: what forward takes and returns. sample: one sample that was calibrated with, to verify exports.

    The model is imported in evaluation mode: dropout is gone, and BatchNorm is part of the weights before it, with the
    statistics that it had. In evaluation mode sums are rounded as the runtime's kernels do. A copy, by deepcopy or pickle, has
    no hooks of torch.
    """

    def __init__(self, hub: Hub, plan: Plan, interface: Interface, sample: Mapping[str, np.ndarray[Any, Any]]) -> None:
        super().__init__()
        self.quantized = QuantizedGraph(hub, plan)
        for name, parameter in self.quantized.graph.weights().items():  # an export carries back the float ones too
            parameter.requires_grad_(name not in plan.constants() or name in self.quantized.learned())
        self.interface, self.sample = interface, dict(sample)
        self.identity = {"graph": plan.fingerprint, "plan": _structure(plan)}

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the original returns, as the quantized model computes it.

        Raises:
            DataError: arguments that are not those of the example.
        """
        return self.interface.returned.build(self.quantized(*self.interface.feeds(inputs, named)))

    @property
    def plan(self) -> Plan:
        """What `prepare` decided; `export` has the trained numbers."""
        return self.quantized.source

    def quantizers(self) -> list[FakeQuantize]:
        """Every fake quantization once."""
        return [part for part in self.modules() if isinstance(part, FakeQuantize)]

    def get_extra_state(self) -> dict[str, str]:
        return dict(self.identity)

    def set_extra_state(self, state: Any) -> None:
        """Nothing is kept: it was compared before the rest was loaded."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        self._check_state(state_dict.get(prefix + _IDENTITY))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_state(self, found: Any) -> None:
        if not isinstance(found, dict) or found.keys() != self.identity.keys():
            raise ModelError("the state is not of a prepared module: load what state_dict() of one gave")
        if found["graph"] != self.identity["graph"]:
            raise ModelError(
                f"the state is of another graph: its fingerprint is {found['graph'][:12]}, the module's is "
                f"{self.identity['graph'][:12]}; prepare the model that it was trained from"
            )
        if found["plan"] != self.identity["plan"]:
            raise ModelError(
                "the state is of the same graph with another plan: prepare with the same recipe, target, data and effort, or "
                "keep trained modules with fewbit.torch.save and load"
            )

    def __reduce__(self) -> Any:
        return rebuild, (content(self),)


def content(module: PreparedModule) -> dict[str, Any]:
    """All that a prepared module is made of."""
    model = ir.external_data.load_to_model(module.quantized.hub.model.clone())
    return {
        "model": ir.to_proto(model).SerializeToString(),
        "plan": module.plan,
        "interface": module.interface,
        "sample": module.sample,
        "state": {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)},
        "trained": [name for name, p in module.named_parameters() if p.requires_grad],
        "enabled": [quantizer.enabled for quantizer in module.quantizers()],
        "training": module.training,
    }


def rebuild(parts: Mapping[str, Any]) -> PreparedModule:
    """The module that `content` describes."""
    hub = Hub(ir.from_proto(onnx.load_from_string(parts["model"])))
    module = PreparedModule(hub, parts["plan"], parts["interface"], parts["sample"])
    module.load_state_dict({**parts["state"], _IDENTITY: module.identity}, assign=True)
    trained = set(parts["trained"])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trained)
    for quantizer, enabled in zip(module.quantizers(), parts["enabled"], strict=True):
        quantizer.enabled = enabled
    return module.train(parts["training"])


def prepared_part(module: nn.Module) -> PreparedModule:
    """The one prepared module that a module is or holds.

    Raises:
        ModelError: there is none, or more than one.
    """
    found = [part for part in module.modules() if isinstance(part, PreparedModule)]
    if len(found) != 1:
        raise ModelError(
            f"{type(module).__name__} holds {len(found) or 'no'} prepared modules, and one is needed: calibrate the model "
            "with fewbit.torch.prepare, and give what it returns"
        )
    return found[0]


def _structure(plan: Plan) -> str:
    """A hash of what a plan decides, without the numbers that are trained and so stand in the state."""
    arrays: dict[str, Any] = {}
    sites = to_dict(plan, arrays)["sites"]
    trained = {name for name, site in plan.sites.items() if site.spec is not None and site.spec.codebook is None}
    numbers = {"scale", "zero_point", "integers"}
    decisions = [{k: v for k, v in s.items() if s["name"] not in trained or k not in numbers} for s in sites]
    forms = {name: node.form for name, node in plan.nodes.items()}
    digest = hashlib.sha256(json.dumps([decisions, forms], sort_keys=True).encode())
    named = {v for site in decisions for v in site.values() if isinstance(v, str)}
    for name in sorted(named & arrays.keys()):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
