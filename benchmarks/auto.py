"""`fewbit auto` beside the peers on every case: which of them gives the fastest and the smallest model that keeps to the drop.

Each model is scored on all evaluation samples and timed in ONNX Runtime beside all others, in turns, on one thread.
Peers get what `auto` gets: the calibration samples; NNCF's accuracy control also half of the evaluation samples to
search with, and the drop.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cases import ROOT, load_zoo, zoo_folder
from peers.environment import python_of
from run import HERE, command, machine
from table import TOLERANCE, Row, lost

PEERS = ("ort-minmax", "ort-percentile", "ort-dynamic", "nncf", "nncf-accuracy")
OBJECTIVES = ("latency", "size")
BEGIN, END = "<!-- begin:auto -->", "<!-- end:auto -->"
_PEER_SECONDS = 900


def search(case: Any, zoo: Path, objective: str, folder: Path) -> Row:
    """One search: what it chose, and what it took."""
    script = str(zoo / "zoo.py")
    sources = {name: f'{script}:{name}("{case.name}")' for name in ("calibration", "evaluation", "metric")}
    arguments = [sys.executable, "-m", "fewbit", "auto", case.model, "-o", str(folder), "--json", "--resume"]
    arguments += ["--data", sources["calibration"], "--eval", sources["evaluation"], "--metric", sources["metric"]]
    arguments += ["--objective", objective]
    begun = time.monotonic()
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if not done.stdout:
        return {"error": done.stderr.strip()[-200:]}
    document = json.loads(done.stdout)
    path = folder / "model.onnx"
    return {
        "chosen": document["chosen"],
        "verdict": document["verdict"]["kind"],
        "tried": len(document["candidates"]),
        "evaluations": document["evaluations"],
        "wall": time.monotonic() - begun,
        "path": str(path) if path.exists() else None,
    }


def peer(tool: str, case: Any, zoo: Path, folder: Path, python: Path) -> Path | None:
    """A peer's model, made once; None where it fails or takes too long."""
    out = folder / f"{case.name}.{tool}.onnx"
    failed = out.with_suffix(".failed")
    if not out.exists() and not failed.exists():
        line = command(tool, case, zoo, out, 128, {"ort": python})
        try:
            done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=_PEER_SECONDS, cwd=folder)
            words = done.stderr.strip()[-300:]
        except subprocess.TimeoutExpired:
            words = f"stopped after {_PEER_SECONDS} s"
        if not out.exists():
            failed.write_text(words)
    return out if out.exists() else None


def measured(case: Any, zoo: Path, models: dict[str, str], rounds: int) -> dict[str, Row]:
    """Metric, size and speed of all models of a case, by name."""
    script = [sys.executable, str(HERE / "measure.py"), str(zoo), case.name, "0", str(rounds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    named = [f"{name}={path}" for name, path in models.items()]
    done = subprocess.run([*script, *named], check=True, capture_output=True, text=True, env=environment)
    return {row["tool"]: row for row in map(json.loads, done.stdout.splitlines())}


def compared(case: str, rows: dict[str, Row], searches: dict[str, Row]) -> Row:
    """The searches' choices beside the best peers that keep to the drop."""
    real = rows["float"]
    peers = [row for tool, row in rows.items() if tool in PEERS and "ratio" in row]
    keeping = [row for row in peers if lost(row, real) <= TOLERANCE]
    fastest = max(keeping, key=lambda row: row["ratio"], default=None)
    smallest = min(keeping, key=lambda row: row["bytes"], default=None)
    return {
        "case": case,
        "float": real,
        "fastest_peer": fastest,
        "smallest_peer": smallest,
        **{objective: {**searches[objective], **rows.get(f"auto-{objective}", {})} for objective in OBJECTIVES},
    }


def table(found: list[Row], where: str) -> str:
    lines = [
        f"Measured on {where}.",
        "",
        "| case | for latency: chosen, verdict | metric float → chosen | speed-up, best peer that keeps to the drop "
        "| for size: chosen, verdict | metric | smaller than float | than the smallest such peer | full evaluations, "
        "seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        fast, small, real = one["latency"], one["size"], one["float"]
        rival, other = one["fastest_peer"], one["smallest_peer"]
        cells = [
            one["case"],
            f"{fast.get('chosen')}, {fast.get('verdict')}",
            f"{real['value']:.4g} → {_figure(fast, 'value', '.4g')}",
            f"×{_figure(fast, 'ratio', '.2f')}, "
            + (f"×{rival['ratio']:.2f} ({rival['tool']})" if rival else "none keeps to it"),
            f"{small.get('chosen')}, {small.get('verdict')}",
            _figure(small, "value", ".4g"),
            f"{1 - small['bytes'] / real['bytes']:.0%}" if "bytes" in small else "–",
            f"{1 - small['bytes'] / other['bytes']:.0%} ({other['tool']})" if other and "bytes" in small else "–",
            ", ".join(
                f"{s['evaluations']:.1f}, {s['wall']:.0f}" for s in (fast, small) if s.get("evaluations") is not None
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figure(row: Row, name: str, form: str) -> str:
    return format(row[name], form) if row.get(name) is not None else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo")
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path, default=ROOT / "results-auto")
    parser.add_argument("--peer-env", type=Path, default=ROOT / ".cache" / "peers")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    folder = zoo_folder(arguments.zoo)
    zoo = load_zoo(folder)
    python = python_of(arguments.peer_env, "ort")
    arguments.out = arguments.out.absolute()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = []
    for name in arguments.cases or zoo.cases():
        case = zoo.load(name)
        searches = {o: search(case, folder, o, arguments.out / f"{name}.{o}") for o in OBJECTIVES}
        models = {f"auto-{o}": s["path"] for o, s in searches.items() if s.get("path")}
        for tool in PEERS:
            made = peer(tool, case, folder, arguments.out, python)
            models |= {tool: str(made)} if made else {}
        found.append(compared(name, measured(case, folder, models, arguments.rounds), searches))
        print(table(found[-1:], "this machine").splitlines()[-1], flush=True)
        (arguments.out / "found.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found))
    text = arguments.document.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    arguments.document.write_text(f"{before}{BEGIN}\n{table(found, machine())}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
