"""Fewbit and its peers on every case, in one run; writes the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cases import ROOT, load_zoo, zoo_folder
from cost import run as run_costed
from peers.environment import environment_of, python_of
from table import write_document

HERE = Path(__file__).resolve().parent
FEWBIT = ("int8", "int8-dynamic", "int8-weights", "fp16", "a16w8")
PEERS = ("ort-minmax", "ort-percentile", "ort-dynamic", "nncf")


def command(tool: str, case: Any, zoo: Path, out: Path, samples: int, pythons: dict[str, Path]) -> list[str]:
    if tool.startswith("fewbit-"):
        data = f'{zoo / "zoo.py"}:calibration("{case.name}")'
        recipe, _, effort = tool.removeprefix("fewbit-").partition("@")
        options = [
            "--recipe",
            recipe,
            "--effort",
            effort or "standard",
            "--limit",
            str(samples),
            "--data",
            data,
            "--quiet",
        ]
        return [sys.executable, "-m", "fewbit", "quantize", case.model, "-o", str(out), "--no-verify", *options]
    script = str(HERE / "peers" / "quantize.py")
    return [str(pythons[environment_of(tool)]), script, tool, case.model, str(zoo), case.name, str(out), str(samples)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo")
    parser.add_argument("--cases", nargs="+")
    parser.add_argument(
        "--tools",
        nargs="+",
        help="fewbit-RECIPE, fewbit-RECIPE@EFFORT, or a peer",
        default=[f"fewbit-{r}" for r in FEWBIT] + list(PEERS),
    )
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--limit-eval", type=int, default=0, help="evaluation samples, 0 for all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--peer-env", type=Path, default=ROOT / ".cache" / "peers")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--resume", action="store_true", help="keep the models that are there")
    arguments = parser.parse_args()
    folder = zoo_folder(arguments.zoo)
    zoo = load_zoo(folder)
    names = arguments.cases or zoo.cases()
    environments = {environment_of(tool) for tool in arguments.tools if not tool.startswith("fewbit-")}
    pythons = {name: python_of(arguments.peer_env, name) for name in sorted(environments)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in names:
        case, models, costs = zoo.load(name), {}, {}
        for tool in arguments.tools:
            out = arguments.out / f"{name}.{tool}.onnx"
            stored = out.with_suffix(".cost.json")
            if not (arguments.resume and out.exists() and stored.exists()):
                out.unlink(missing_ok=True)
                log = out.with_suffix(".log")
                cost = run_costed(command(tool, case, folder, out, arguments.samples, pythons), log)
                stored.write_text(json.dumps(cost.to_dict()))
            costs[tool] = json.loads(stored.read_text())
            state = (
                ""
                if out.exists()
                else " FAILED: " + (out.with_suffix(".log").read_text().strip() or "-").splitlines()[-1][:150]
            )
            print(f"{name} {tool}: {costs[tool]['cpu_seconds']} CPU-s, {costs[tool]['peak_mb']} MB{state}", flush=True)
            if out.exists():
                models[tool] = out
            else:
                rows.append({"case": name, "tool": tool, "error": state.strip(), **costs[tool]})
        script = [
            sys.executable,
            str(HERE / "measure.py"),
            str(folder),
            name,
            str(arguments.limit_eval),
            str(arguments.rounds),
        ]
        done = subprocess.run(
            script + [f"{t}={p}" for t, p in models.items()],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        )
        rows += [{**row, **costs.get(row["tool"], {})} for row in map(json.loads, done.stdout.splitlines())]
        (arguments.out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_document(arguments.document, rows, machine())


def machine() -> str:
    from fewbit.runtimes.cpu import cpu_features

    cpu = cpu_features()
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "onnx", "numpy"))
    return f"{cpu.cores} cores of {cpu.name} ({', '.join(cpu.flags)}), Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    main()
