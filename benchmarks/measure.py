"""Score and time the quantized models of one case beside the float model: measure.py ZOO CASE LIMIT ROUNDS NAME=PATH ...

Prints a JSON line for each model.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cases import load_zoo

from fewbit.errors import FewbitError
from fewbit.measure.compare import OutputComparison, finite_or_none
from fewbit.measure.latency import interleaved
from fewbit.runtimes.onnxruntime import OrtSession, open_session


def main() -> None:
    folder, name, limit, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    models = dict(argument.split("=", 1) for argument in sys.argv[5:])
    case = load_zoo(folder).load(name)
    paths = {"float": case.model, **models}
    sessions: dict[str, OrtSession] = {}
    rows: dict[str, dict[str, Any]] = {}
    for tool, path in paths.items():
        rows[tool] = {"case": name, "tool": tool, "metric": case.metric_name, "higher": case.higher_is_better}
        try:
            sessions[tool] = open_session(path)
            rows[tool]["bytes"] = os.path.getsize(path)
        except FewbitError as error:
            rows[tool]["error"] = str(error)[:200]
    outputs: dict[str, list[Any]] = {tool: [] for tool in sessions}
    comparisons = {tool: OutputComparison(tool) for tool in sessions}
    first = None
    for feed in case.evaluation(limit or None):
        first = first or feed
        real = None
        for tool, session in list(sessions.items()):
            try:
                given = session.run(feed)
            except FewbitError as error:
                rows[tool]["error"] = str(error)[:200]
                del sessions[tool], outputs[tool]
                continue
            real = real or given
            outputs[tool].append([given[0]])
            comparisons[tool].update(real[0], given[0])
    for tool, given in outputs.items():
        rows[tool] |= {"value": case.score(given), "samples": len(given)}
        if tool != "float":
            agreement = comparisons[tool].agreement
            rows[tool] |= {"sqnr": finite_or_none(comparisons[tool].sqnr), "agreement": agreement}
    assert first is not None
    one = {k: v[:1] for k, v in first.items()} if case.metric_name == "spearman" else first  # pairs: time one sentence
    runs = {tool: (lambda s=session: s.run(one)) for tool, session in sessions.items()}
    for latency in interleaved(runs, rounds=rounds):
        rows[latency.name] |= {
            "ms": latency.milliseconds,
            "ratio": latency.ratio,
            "low": latency.low,
            "high": latency.high,
        }
    for row in rows.values():
        print(json.dumps(row, default=float), flush=True)


if __name__ == "__main__":
    np.seterr(all="ignore")
    os.environ["FEWBIT_FLUSH_DENORMALS"] = "1"
    main()
