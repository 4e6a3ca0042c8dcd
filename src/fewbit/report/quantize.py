"""What `quantize` did."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewbit.report.words import counts, decibel, percent, samples, size

_FORMS = {
    "integer": "integer kernels",
    "dynamic": "integer kernels, ranges found at every run",
    "weight_only": "packed weights beside float activations",
    "storage": "narrow weights, float arithmetic",
    "passthrough": "move integers",
    "absorbed": "absorbed in the layer before",
    "float": "float",
}

_CLIPPED = 1e-3  # the share of clipped values that is worth a line


def render(data: dict[str, Any]) -> RenderableType:
    """A headline, a table of facts, and what the user should know."""
    smaller = data["smaller"]
    head = f"{data['path'] or 'model'}: {size(data['bytes'])}, float {size(data['float_bytes'])}"
    if smaller is not None:
        head += f" ({percent(smaller)} smaller)" if smaller > 0 else f" ({percent(-smaller)} larger)"
    table = Table.grid(padding=(0, 2))
    table.add_row("recipe", f"{data['recipe']} for {data['target']}")
    if data["calibration"]:
        table.add_row("samples", samples(data["calibration"]))
    for form, label in _FORMS.items():
        if data["forms"].get(form):
            table.add_row(
                "nodes" if form == next(f for f in _FORMS if data["forms"].get(f)) else "",
                f"{data['forms'][form]} {label}",
            )
    for reason, count in data["left_in_float"].items():
        table.add_row("in float", f"{count} × {reason}")
    verification = data["verification"]
    if verification:
        found = verification["kernels"]
        table.add_row("runs as", counts(found["integer"]))
        if found["float_heavy"]:
            table.add_row("", f"in float: {counts(found['float_heavy'])}")
        on = verification["inputs"]
        if on != "random inputs":
            on = f"{verification['outputs'][0]['samples']} {on}"
        for output in verification["outputs"]:
            agreement = "" if output["agreement"] is None else f", {percent(output['agreement'])} agree"
            table.add_row("against float", f"{output['name']}: {decibel(output['sqnr_db'])}{agreement} ({on})")
        if verification["latency"] is not None:
            table.add_row("speed", f"×{verification['latency']['ratio']:.2f} of float, batch 1, one thread")
    for item in [s for s in data["saturated"] if s["share"] >= _CLIPPED][:3]:
        table.add_row("clips", f"{percent(item['share'])} of {item['site']}")
    table.add_row("took", f"{data['seconds']:.1f} s")
    notes = [Text(f"note: {note}") for note in data["notes"]]
    return Group(Text(head, style="bold"), table, *notes)
