"""What a target can do, as typed constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fewbit.spec import INT32, DType, Rounding

Form = Literal["integer", "passthrough", "dynamic", "weight_only", "storage", "absorbed", "float"]
"""How a node computes.

integer: an integer kernel reads quantized inputs (and writes a quantized output where the kernel needs one).
passthrough: moves integers without looking at them, so its output has its input's scale.
dynamic: the runtime finds the range of the activation at every run; the weights are integers.
weight_only: a kernel reads packed integer weights beside a float activation, and never expands them as a whole.
storage: the weights are stored narrow and expanded when the model is loaded; computes in float.
absorbed: an activation function that the producer's saturation already performs; the node disappears.
float: left as it was.
"""

Output = Literal["required", "optional", "never"]


MOVING = (
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Split",
    "MaxPool",
    "Pad",
    "Identity",
    "Relu",
    "Clip",
)
"""Ops that ONNX Runtime and LiteRT do on integers without looking at their scale."""


@dataclass(frozen=True, slots=True)
class OpRule:
    """What the target's kernels for one op take.

    forms: the ways the op can run narrow, besides float.
    activations, weights: the dtypes that an integer kernel takes; weights of fewer bits fit too, and so do activations of
        fewer than 8: integers held to fewer levels of an 8-bit tensor.
    packed: the dtypes of weights that a weight-only kernel takes.
    per_channel: whether a weight may have one scale a channel.
    output: whether the integer kernel needs a quantized output, may have one, or gives float.
    fixed: dtype of the output → (scale, zero point) where the kernel has its own.
    why: the evidence for what is missing here, shown to the user as a reason.
    """

    forms: tuple[Form, ...] = ()
    activations: tuple[DType, ...] = ()
    weights: tuple[DType, ...] = ()
    packed: tuple[DType, ...] = ()
    per_channel: bool = True
    output: Output = "required"
    fixed: Mapping[DType, tuple[float, int]] = field(default_factory=dict)
    why: str = ""

    def takes_activation(self, dtype: DType) -> bool:
        """Whether an integer kernel takes activations of this dtype, or of the 8 bits that hold them."""
        return (DType(dtype.kind, 8) if dtype.is_integer and dtype.bits < 8 else dtype) in self.activations


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime on a kind of machine.

    weight_bits: the widest integer weight whose products cannot saturate the accumulator of the kernels, whatever the
        weights are (7 where pairs of u8·s8 products are added in 16 bits).
    pair_limit: where weights of one scale a channel may have 8 bits all the same, if those of two neighbouring inputs
        add up to no more than this; depthwise convolutions, which add no pairs, need no limit. None: no such kernels.
    weight_only_rows: (elements of a weight, activation rows): from so many elements on a weight-only kernel is no slower than
        float for up to so many rows; none: for any number of rows.
    block_multiple: of inputs that share a scale in a weight-only kernel.
    fused_activations: ops that a quantized output absorbs.
    activations: the integers that activations are; those that a recipe names become them, of as many bits. Signed ones of 16
        bits have no zero point.
    stores: the dtypes that a weight in `storage` form may have; None: any.
    integers_only: whether every node has to compute with integers, and a plan with float ones is refused. Its recipes are then
        `recipes`, and the ends of its files are integers unless asked otherwise.
    bias: dtype of a bias in an integer kernel; its scale is the product of input and weight scales.
    rounding: of activations in the runtime.
    facts: what a user should know, each with the form it concerns.
    """

    name: str
    runtime: str
    format: str
    description: str
    ops: dict[str, OpRule] = field(repr=False)
    weight_bits: int = 8
    pair_limit: int | None = None
    weight_only_rows: tuple[tuple[int, int], ...] = ()
    block_multiple: int = 16
    fused_activations: tuple[str, ...] = ("Relu", "Clip")
    activations: Literal["uint", "int"] = "uint"
    stores: tuple[DType, ...] | None = None
    integers_only: bool = False
    recipes: tuple[str, ...] = ()
    bias: DType = INT32
    rounding: Rounding = "half_even"
    facts: tuple[str, ...] = field(default=(), repr=False)

    def rule(self, op: str) -> OpRule:
        """The rule of an op; an op that is not listed stays float."""
        return self.ops.get(op, OpRule(why=f"{self.runtime} has no integer kernel for {op}"))

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "runtime": self.runtime,
            "format": self.format,
            "description": self.description,
            "weight_bits": self.weight_bits,
            "pair_limit": self.pair_limit,
            "weight_only_rows": [list(row) for row in self.weight_only_rows],
            "activations": self.activations,
            "stores": None if self.stores is None else [str(d) for d in self.stores],
            "integers_only": self.integers_only,
            "block_multiple": self.block_multiple,
            "bias": str(self.bias),
            "rounding": self.rounding,
            "fused_activations": list(self.fused_activations),
            "facts": list(self.facts),
            "ops": {
                op: {
                    "forms": list(rule.forms),
                    "activations": [str(d) for d in rule.activations],
                    "weights": [str(d) for d in rule.weights],
                    "packed": [str(d) for d in rule.packed],
                    "per_channel": rule.per_channel,
                    "output": rule.output,
                    "fixed": {str(dtype): list(numbers) for dtype, numbers in rule.fixed.items()},
                    "why": rule.why,
                }
                for op, rule in self.ops.items()
            },
        }
