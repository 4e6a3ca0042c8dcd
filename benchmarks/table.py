"""Rows of measurements as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- begin:generated -->", "<!-- end:generated -->"
FULL_INTEGER = ("ort-minmax", "ort-percentile", "nncf")
TOLERANCE = 0.005  # half a point; a perplexity may grow by 1 %

Row = dict[str, Any]


def write_document(path: Path, rows: list[Row], machine: str) -> None:
    """Put the tables between the markers of a document; the text around them is kept."""
    text = path.read_text(encoding="utf-8") if path.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = f"Measured on {machine}.\n\n{summary(rows)}\n{matrix(rows)}\n{details(rows)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{BEGIN}\n{tables}{END}{after}", encoding="utf-8")


def lost(row: Row, reference: Row) -> float:
    """How much worse than float: in the metric's unit, or relative for a perplexity; negative is better."""
    if row["metric"] == "perplexity":
        return float(row["value"] / reference["value"] - 1) / 2  # 1 % counts as half a point
    change = row["value"] - reference["value"]
    return float(-change if row["higher"] else change)


def summary(rows: list[Row]) -> str:
    """fewbit int8 beside the best full-integer peer of each case, column by column; nothing where either was not run."""
    tools = {row["tool"] for row in rows}
    if "fewbit-int8" not in tools or not tools & {*FULL_INTEGER}:
        return ""
    lines = [
        "### int8 against the best full-integer peer",
        "",
        "For each column the peer that does best in it; for latency only peers that keep the metric within half a point "
        "(a perplexity within 1 %).",
        "",
        "| case | metric float → fewbit | SQNR dB fewbit / peer | speed-up fewbit / peer | smaller fewbit / peer "
        "| CPU-s fewbit / peer | peak MB fewbit / peer |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = {row["tool"]: row for row in rows if row["case"] == case and "value" in row}
        if "fewbit-int8" not in mine:
            continue
        real, ours = mine["float"], mine["fewbit-int8"]
        peers = [mine[t] for t in FULL_INTEGER if t in mine]
        keeping = [p for p in peers if lost(p, real) <= TOLERANCE]
        best = lambda key, among, pick: pick((p[key] for p in among if p.get(key) is not None), default=None)  # noqa: E731
        lines.append(
            "| "
            + " | ".join(
                [
                    case,
                    f"{real['value']:.4f} → {ours['value']:.4f}",
                    f"{_n(ours['sqnr'])} / {_n(best('sqnr', peers, max))}",
                    f"×{ours['ratio']:.2f} / {_times(best('ratio', keeping, max))}",
                    f"{1 - ours['bytes'] / real['bytes']:.0%} / {_share(best('bytes', peers, min), real['bytes'])}",
                    f"{ours['cpu_seconds']} / {_n(best('cpu_seconds', peers, min))}",
                    f"{ours['peak_mb']:.0f} / {_n(best('peak_mb', peers, min), 0)}",
                ]
            )
            + " |"
        )
    return "\n".join(lines) + "\n"


def matrix(rows: list[Row]) -> str:
    """All recipes on all cases: the change of the metric, SQNR, size and speed; nothing for one of either, or beside peers."""
    tools = [t for t in dict.fromkeys(row["tool"] for row in rows) if t != "float"]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    if len(cases) < 2 or len(tools) < 2 or not all(tool.startswith("fewbit-") for tool in tools):
        return ""
    found = {(row["case"], row["tool"]): row for row in rows if "value" in row}
    shown = {
        "Change of the metric in points (of a perplexity in percent; below zero is worse)": lambda row, real: (
            f"{-100 * lost(row, real) * (2 if row['metric'] == 'perplexity' else 1):+.2f}"
        ),
        "SQNR of the first output, dB": lambda row, real: _n(row.get("sqnr")),
        "File, percent of float": lambda row, real: f"{row['bytes'] / real['bytes']:.0%}",
        "Speed-up over float": lambda row, real: f"×{row['ratio']:.2f}",
    }
    parts = ["### Recipes side by side\n"]
    for title, cell in shown.items():
        parts += [f"\n{title}:\n", f"| | {' | '.join(cases)} |", "|---" * (len(cases) + 1) + "|"]
        for tool in tools:
            cells = [cell(found[c, tool], found[c, "float"]) if (c, tool) in found else "failed" for c in cases]
            parts.append(f"| {tool.removeprefix('fewbit-')} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def details(rows: list[Row]) -> str:
    """A table for each case, a row for each tool."""
    parts = []
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == case]
        real = next(row for row in mine if row["tool"] == "float")
        parts += [
            f"\n### {case} ({real['metric']}, {real['samples']} samples)\n",
            "| tool | metric | change | agreement | SQNR dB | kB | speed-up | 95 % interval | seconds | CPU-s | peak MB |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(mine, key=lambda r: (r["tool"] != "float", "fewbit" not in r["tool"])):
            if "value" not in row:
                parts.append(f"| {row['tool']} | {row.get('error', 'failed')} |" + " |" * 9)
                continue
            first = row is real
            interval = "" if first else f"{row['low']:.2f} to {row['high']:.2f}"
            agreement = row.get("agreement")
            parts.append(
                "| "
                + " | ".join(
                    [
                        row["tool"],
                        f"{row['value']:.4f}",
                        "" if first else f"{row['value'] - real['value']:+.4f}",
                        "" if agreement is None else f"{agreement:.1%}",
                        "" if first else _n(row.get("sqnr")),
                        f"{row['bytes'] / 1000:.0f}",
                        "1" if first else f"×{row['ratio']:.2f}",
                        interval,
                        *("" if first else str(row.get(k, "")) for k in ("seconds", "cpu_seconds", "peak_mb")),
                    ]
                )
                + " |"
            )
    return "\n".join(parts) + "\n"


def _n(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _times(value: float | None) -> str:
    return "none keeps it" if value is None else f"×{value:.2f}"


def _share(size: float | None, real: float) -> str:
    return "–" if size is None else f"{1 - size / real:.0%}"
