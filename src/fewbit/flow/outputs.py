"""How good a quantized model's outputs are beside those of the float model, probabilities by the scores behind them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial

import onnx_ir as ir

from fewbit.flow.formats import ModelFormat
from fewbit.graph.answers import squashed_outputs
from fewbit.graph.hub import Hub
from fewbit.measure.answers import Views, scores_of_sigmoid, scores_of_softmax
from fewbit.runtimes.onnxruntime import Feed, open_session
from fewbit.runtimes.verify import compare_with


def score_views(hub: Hub) -> Views:
    """For every output that is probabilities, what gives the scores behind them."""
    return {
        name: partial(scores_of_softmax, axis=squash.axis) if squash.kind == "softmax" else scores_of_sigmoid
        for name, squash in squashed_outputs(hub).items()
    }


class OutputJudge:
    """Compares quantized models with the outputs that the float model gave for some samples, which are kept.

    Outputs to `ignore` do not count.
    """

    def __init__(self, hub: Hub, feeds: Iterable[Feed], format: ModelFormat, ignore: Collection[str] = ()) -> None:
        self.format = format
        session = open_session(hub.model)
        self.names, self.views, self.ignore = session.outputs, score_views(hub), ignore
        self.wanted = [(feed, session.run(feed)) for feed in feeds]

    def sqnr(self, quantized: ir.Model) -> float:
        """The least SQNR in dB over the numeric outputs, in the runtime or as its format is simulated."""
        outputs = compare_with(self.names, self.wanted, self.format.session(quantized), self.views)
        return min((o.sqnr for o in outputs if o.per_sample and o.name not in self.ignore), default=float("inf"))
