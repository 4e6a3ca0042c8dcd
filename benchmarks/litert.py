"""LiteRT: fewbit's int8 beside float, litert-quantizer's static int8 of the same file, and ONNX Runtime's int8 by fewbit.

Writes a section of docs/litert.md. Latency is a ratio to the float file in the same runtime, in turns, on one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import load_zoo, zoo_folder

import fewbit
from fewbit.flow.formats import FORMATS, Details
from fewbit.graph.load import load
from fewbit.measure.compare import OutputComparison
from fewbit.measure.latency import interleaved
from fewbit.runtimes.session import Session
from fewbit.runtimes.table import open_model, runtime_of

CASES = (
    "cifar10_resnet20",
    "cifar10_cct",
    "coco_yolox_nano",
    "imagenet_efficientnet_lite0",
    "llm_stories260k",
    "mlperf_ad_autoencoder",
    "mlperf_ic_resnet8",
    "mlperf_kws_dscnn",
    "ocr_cls_mobilenetv3",
    "stsb_minilm_l3",
)
BEGIN, END = "<!-- begin:litert -->", "<!-- end:litert -->"
_ROUNDS = 25

# In a process of its own: its calibration keeps gigabytes, and what it does to this one is not known.
_PEER = """
import sys
import numpy as np
from litert_quantizer import quantizer, recipe
source, out, samples = sys.argv[1:]
stored = np.load(samples)
count = len(stored[stored.files[0]])
feeds = [{name: stored[name][i] for name in stored.files} for i in range(count)]
made = quantizer.Quantizer(source)
made.load_quantization_recipe(recipe.static_wi8_ai8())
found = made.calibrate({"serving_default": feeds}) if made.need_calibration else None
made.quantize(found, enable_progress_report=False).export_model(out, overwrite=True)
"""


def peer(source: Path, out: Path, feeds: list[dict[str, Any]], python: str) -> str:
    """litert-quantizer's file, or what it says instead."""
    samples = out.with_suffix(".npz")
    narrow = [{n: a.astype(np.int32) if a.dtype == np.int64 else a for n, a in feed.items()} for feed in feeds]
    np.savez(samples, **{name: np.stack([feed[name] for feed in narrow]) for name in narrow[0]})
    done = subprocess.run([python, "-c", _PEER, source, out, samples], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["?"])[-1][:160]


def measure(case: Any, name: str, limit: int, python: str) -> list[dict[str, Any]]:
    hub = load(str(case.model))
    calibration = f'{case.folder.parent / "zoo.py"}:calibration("{name}")'
    feeds = list(case.evaluation())
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="fewbit-") as folder:
        paths = {tool: Path(folder) / f"{tool}.tflite" for tool in ("float", "fewbit", "litert-quantizer")}
        sample = next(iter(case.calibration()))
        shapes = {key: array.shape for key, array in sample.items()}
        FORMATS["litert"].write(hub.clone().model, paths["float"], Details(shapes))
        made = fewbit.quantize(str(case.model), calibration, out=paths["fewbit"], limit=limit)
        onnx = fewbit.quantize(str(case.model), calibration, out=Path(folder) / "m.onnx", limit=limit, verify=False)
        failed = peer(paths["float"], paths["litert-quantizer"], list(case.calibration())[:limit], python)
        assert made.verification is not None
        agreement = min(o.sqnr for o in made.verification.simulation if o.per_sample)
        steps = min((o.sqnr for o in made.verification.steps if o.per_sample), default=None)
        reference = open_model(case.model)
        wanted = [reference.run(feed) for feed in feeds]
        sessions: dict[str, Session] = {"float": open_model(paths["float"])}
        for tool in ("fewbit", "litert-quantizer"):
            if paths[tool].exists():
                sessions[tool] = open_model(paths[tool])
        runs: dict[str, Callable[[], object]] = {tool: s.timed(sample) for tool, s in sessions.items()}
        latency = dict(zip(list(runs)[1:], interleaved(runs, rounds=_ROUNDS)[1:], strict=True))
        for tool, session in sessions.items():
            row = judged(case, tool, session, feeds, wanted)
            row |= {"kB": paths[tool].stat().st_size / 1e3, "case": name}
            if tool in latency:
                row["ratio"] = latency[tool].ratio
            kernels = runtime_of(paths[tool]).kernels(paths[tool])
            row["float_heavy"] = sum(kernels.float_heavy.values())
            own = {"agreement": agreement, "steps": steps, "notes": made.notes}
            rows.append(row | (own if tool == "fewbit" else {}))
        onnx_path = Path(folder) / "m.onnx"
        row = judged(case, "fewbit, ONNX Runtime", open_model(onnx_path), feeds, wanted)
        rows.append(row | {"case": name, "kB": onnx.bytes / 1e3})
    if failed:
        rows.append({"case": name, "tool": "litert-quantizer", "failed": failed})
    return rows


def judged(case: Any, tool: str, session: Session, feeds: list[Any], wanted: list[Any]) -> dict[str, Any]:
    """The metric over all evaluation samples, and the SQNR of the first output against float in ONNX Runtime."""
    compared, outputs = OutputComparison("output"), []
    for feed, real in zip(feeds, wanted, strict=True):
        given = session.run(feed)
        outputs.append(given)
        compared.update(real[0], given[0])
    return {"tool": tool, "metric": float(case.score(outputs)), "sqnr": compared.sqnr}


def table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| case | file | metric | SQNR dB | kB | over float LiteRT | agrees with the plan, dB | float products |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['case']} | {row['tool']} | failed: {row['failed']} | | | | | |")
            continue
        agreement = row.get("agreement")
        exact = "" if agreement is None else "exact" if math.isinf(agreement) or agreement > 140 else f"{agreement:.0f}"
        exact += f", step by step {row['steps']:.0f}" if row.get("steps") is not None else ""
        cells = [row["case"], row["tool"], f"{row['metric']:.4f}", f"{row['sqnr']:.1f}", f"{row['kB']:.0f}"]
        cells += [f"×{row['ratio']:.2f}" if "ratio" in row else "", exact, str(row.get("float_heavy", ""))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo")
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has litert-quantizer")
    parser.add_argument("--results", type=Path, help="JSON lines to add to, so that cases can be measured one by one")
    parser.add_argument("--document", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("FEWBIT_FLUSH_DENORMALS", "1")
    zoo = load_zoo(zoo_folder(arguments.zoo))
    rows: list[dict[str, Any]] = []
    if arguments.results is not None and arguments.results.exists():
        rows = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    for name in arguments.cases:
        rows = [row for row in rows if row["case"] != name]
        found = measure(zoo.load(name), name, arguments.samples, arguments.python)
        rows += found
        print("\n".join(table(found)[2:]), flush=True)
        if arguments.results is not None:
            arguments.results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if arguments.document is not None:
        text = arguments.document.read_text()
        before, rest = text.split(BEGIN)
        order = {name: i for i, name in enumerate(CASES)}
        lines = table(sorted(rows, key=lambda row: order[row["case"]]))
        arguments.document.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
