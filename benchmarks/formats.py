"""Weights in non-uniform and uniform formats side by side, at the same block sizes; writes a section of docs/benchmarks.md.

Weights are stored narrow and nothing else is quantized, so what differs is the format alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cases import load_zoo, zoo_folder

import fewbit
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.ops import weight_of
from fewbit.measure.compare import OutputComparison, decibel
from fewbit.measure.latency import interleaved
from fewbit.plan.balanced import effective_weight
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe, Rule
from fewbit.runtimes.onnxruntime import open_session
from fewbit.spec import DType

CASES = ("llm_stories260k", "stsb_minilm_l3", "cifar10_resnet20", "ocr_cls_mobilenetv3", "mlperf_kws_dscnn")
BLOCKS: dict[str, dict[str, Any]] = {
    "channel": {"granularity": "channel"},
    "64": {"granularity": "group", "group_size": 64},
    "32": {"granularity": "group", "group_size": 32},
}
FORMATS: dict[str, dict[str, Any]] = {
    "int4 absmax": {"dtype": DType.parse("int4"), "range": "absmax"},
    "int4": {"dtype": DType.parse("int4")},
    **{
        name: {"dtype": DType.parse("uint4"), "codebook": table}
        for name, table in (("nf4", "nf4"), ("fp4", "fp4"), ("pot4", "pot"), ("apot4", "apot"), ("codebook4", "kmeans"))
    },
}
BUILT_IN = ("fp8-e4m3", "fp8-e5m2", "bf16")
BEGIN, END = "<!-- begin:formats -->", "<!-- end:formats -->"


def recipes() -> dict[str, Recipe]:
    made = {
        f"{name} {block}": Recipe(name, (Rule(compute="storage", weight={**weight, **where, "bias_correction": True}),))
        for name, weight in FORMATS.items()
        for block, where in BLOCKS.items()
    }
    return made | {f"{name} channel": Recipe.get(name) for name in BUILT_IN}


def weight_sqnr(hub: Hub, plan: Plan) -> float:
    """Mean over the weights of their SQNR in dB."""
    found = {}
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is None or weight.name not in plan.sites:
            continue
        real = np.asarray(hub.constant(weight.value), np.float32)
        site = plan.sites[weight.name]
        assert site.spec is not None
        given = (
            real.astype(site.spec.dtype.storage)
            if site.params is None
            else effective_weight(hub, plan, node, weight.value)
        )
        noise = np.square(real - given.astype(np.float32), dtype=np.float64).sum()
        found[weight.name] = decibel(float(np.square(real, dtype=np.float64).sum()), float(noise))
    return float(np.mean(list(found.values())))


def measure(case: Any, samples: int, rounds: int) -> list[dict[str, Any]]:
    hub = load(case.model)
    feeds, given = list(case.evaluation(samples)), list(case.calibration(samples))
    real = open_session(case.model)
    wanted = [real.run(feed)[0] for feed in feeds]
    rows: dict[str, dict[str, Any]] = {}
    runs = {"float": lambda: real.run(feeds[0])}
    with tempfile.TemporaryDirectory() as folder:
        for name, recipe in recipes().items():
            out = Path(folder) / f"{len(rows)}.onnx"
            # the nearest level of every format: at more effort those that are affine would be rounded by outputs
            made = fewbit.quantize(case.model, given, recipe, out=out, effort="fast", verify=False)
            session, comparison = open_session(out), OutputComparison(name)
            for feed, output in zip(feeds, wanted, strict=True):
                comparison.update(output, session.run(feed)[0])
            form, _, block = name.rpartition(" ")
            rows[name] = {"case": case.name, "format": form, "block": block, "bytes": made.bytes}
            rows[name] |= {"weights": weight_sqnr(hub, made.plan), "outputs": comparison.sqnr}
            runs[name] = lambda s=session: s.run(feeds[0])
            print(json.dumps(rows[name]), flush=True)
        for latency in interleaved(runs, rounds=rounds):
            if latency.name in rows:
                rows[latency.name]["ratio"] = latency.ratio
    return list(rows.values())


def table(case: Any, rows: list[dict[str, Any]]) -> str:
    """One line a format and block: SQNR of weights and outputs, and kB; the speed of all, for they run the same kernels."""
    ratios = sorted(row["ratio"] for row in rows)
    lines = [
        f"### {case.name} (float {os.path.getsize(case.model) / 1000:.0f} kB)",
        "",
        "| format | block | weights dB | outputs dB | kB |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        best = max(r["outputs"] for r in rows if r["block"] == row["block"] and r["format"] not in BUILT_IN)
        mark = "**" if row["outputs"] == best else ""
        lines.append(
            f"| {row['format']} | {row['block']} | {row['weights']:.2f} | {mark}{row['outputs']:.2f}{mark} | "
            f"{row['bytes'] / 1000:.0f} |"
        )
    middle = ratios[len(ratios) // 2]
    lines += ["", f"Speed over float: median ×{middle:.2f}, from ×{ratios[0]:.2f} to ×{ratios[-1]:.2f}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo")
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--document", type=Path, help="write the tables between the markers of this file")
    arguments = parser.parse_args()
    zoo = load_zoo(zoo_folder(arguments.zoo))
    tables = []
    for name in arguments.cases:
        case = zoo.load(name)
        tables.append(table(case, measure(case, arguments.samples, arguments.rounds)))
        print(tables[-1], flush=True)
    if arguments.document:
        text = arguments.document.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        generated = "\n\n".join(tables)
        arguments.document.write_text(f"{before}{BEGIN}\n{generated}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
