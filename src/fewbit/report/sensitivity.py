"""What `sensitivity` measured."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewbit.report.words import decibel, percent, plain, size

_SHOWN = 20
_WATCHED = 0.5  # of the noise, which the layers to watch bring together
_NAMED = 5
_NAME = 14  # letters of a layer's name on a line, however narrow the terminal


def render(data: dict[str, Any]) -> RenderableType:
    """The loudest layers, recipes as a whole, the layers to watch in each, whether noises add up, and advice."""
    recipes = [r["recipe"] for r in data["recipes"]]
    parts: list[RenderableType] = [
        Text(f"dB at the outputs when one layer alone is narrow, on {data['samples']} samples; the loudest first"),
        _layers(data["layers"][:_SHOWN], recipes),
    ]
    if len(data["layers"]) > _SHOWN:
        parts.append(Text(f"and {len(data['layers']) - _SHOWN} quieter layers (--json has all)"))
    parts += [Text(), _recipes(data["recipes"]), Text()]
    parts += [Text(f"watch in {name}: {watched(data['layers'], name)}") for name in recipes]
    parts += [Text(f"advice: {advice(a)}") for a in data["advice"]]
    told = [data["additivity"]["sentence"]] if data["additivity"] else []
    parts += [Text(f"note: {note}") for note in [*told, *data["notes"]]]
    return Group(*parts)


def _layers(layers: list[dict[str, Any]], recipes: list[str]) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("layer", overflow="fold", min_width=_NAME)
    for column in ("op", "weight", "work", *(plain(name).replace("-", "-\n") for name in recipes), "most\nsaved"):
        table.add_column(column, justify="left" if column == "op" else "right", no_wrap=True)
    for layer in layers:
        formats = layer["formats"]
        table.add_row(
            Text(plain(layer["name"])),
            layer["op"],
            size(layer["float_bytes"]),
            percent(layer["work"]),
            *(_noise(formats[name]["sqnr_db"], "") if name in formats else "-" for name in recipes),
            size(max(f["bytes_saved"] for f in formats.values())),
        )
    return table


def _recipes(recipes: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("all layers in", "layers", "saved", "expected", "measured"):
        table.add_column(column, justify="left" if column == "all layers in" else "right")
    for r in recipes:
        row = (str(r["layers"]), size(r["bytes_saved"]), _noise(r["expected_db"], " dB"), decibel(r["measured_db"]))
        table.add_row(Text(plain(r["recipe"])), *row)
    return table


def _noise(value: float | None, unit: str) -> str:
    """None: values beyond what the format holds, as in float16, which leave nothing of the outputs."""
    return "lost" if value is None else f"{value:.1f}{unit}"


def watched(layers: list[dict[str, Any]], recipe: str) -> str:
    """The fewest layers that bring half of a recipe's noise, five at most, and their share of it."""
    known = {x["name"]: x["formats"][recipe]["noise"] for x in layers if recipe in x["formats"]}
    lost = [name for name, noise in known.items() if noise is None]
    if lost:
        return f"{', '.join(map(plain, lost[:_NAMED]))} (values beyond what the format holds)"
    noise = {name: float(n) for name, n in known.items()}
    total = sum(noise.values())
    if not total:
        return "none: they bring no noise"
    names: list[str] = []
    for name in sorted(noise, key=lambda n: -noise[n])[:_NAMED]:
        names.append(name)
        if sum(noise[n] for n in names) >= _WATCHED * total:
            break
    share = sum(noise[n] for n in names) / total
    return f"{', '.join(map(plain, names))} ({share:.0%} of the noise)"


def advice(a: dict[str, Any]) -> str:
    """Which layers to widen, what that takes and gives."""
    where = "in float (--exclude)" if a["to"] is None else f"as in {a['to']}"
    cost = f"{size(a['bytes'])} more" if a["bytes"] >= 0 else f"{size(-a['bytes'])} less"
    return (
        f"in {plain(a['recipe'])} keep {', '.join(map(plain, a['layers']))} {where}: {cost}, {a['work']:.0%} of the work, "
        f"{a['before_db']:.1f} → {a['after_db']:.1f} dB expected"
    )
