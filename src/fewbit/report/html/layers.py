"""Layers by precision and by error."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fewbit.report.document import Document, Layer
from fewbit.report.html.figure import ACCENT, FEW, INK, PAPER, WARN, Width, both
from fewbit.report.html.names import Named, shortened, write_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = 340.0
_NAMED = {"wide": 6, "narrow": 3}  # layers of the largest error that are named
_BENEATH = 0.2  # of the height: room for the names of the lowest points
_LONGEST = {"wide": 36, "narrow": 22}
_FORMS = {
    "integer": "integer kernels",
    "dynamic": "integer kernels, ranges found at every run",
    "weight_only": "packed weights, float activations",
    "storage": "narrow weights, float arithmetic",
    "passthrough": "moves integers",
    "absorbed": "absorbed in the layer before",
    "float": "float",
}


class Share(NamedTuple):
    """Layers of one precision: how many, and their share of the work from 0 to 1."""

    title: str
    layers: int
    share: float
    shade: str


class Group(NamedTuple):
    """A mark for layers of so many bits."""

    title: str
    sign: str
    marker: str
    colour: str
    css: str


# By the bits of weights. Signs are those of the marks, for the key beneath the plot.
GROUPS = (
    Group("up to 4 bits", "▼", "v", FEW, "few"),
    Group("5 to 8 bits", "●", "o", ACCENT, "some"),
    Group("9 bits and more", "◆", "D", WARN, "many"),
    Group("bits not known", "○", "o", INK, ""),
)


def group_of(layer: Layer) -> Group:
    if layer.bits is None:
        return GROUPS[3]
    return GROUPS[0] if layer.bits <= 4 else GROUPS[1] if layer.bits <= 8 else GROUPS[2]


def form_words(form: str) -> str:
    return _FORMS.get(form, form.replace("_", " ") or "–")


def shares(layers: tuple[Layer, ...]) -> tuple[list[Share], bool]:
    """The work of layers by precision, fewest bits first; whether it is weighted by work, or counted as that is unknown."""
    weighted = any(layer.work for layer in layers)
    sums: dict[tuple[float, str], list[float]] = {}
    for layer in layers:
        wide = layer.form == "float" or layer.bits is None
        key = (float("inf") if wide or layer.bits is None else layer.bits, layer.form)
        entry = sums.setdefault(key, [0.0, 0.0])
        entry[0] += 1
        entry[1] += (layer.work or 0.0) if weighted else 1.0
    total = sum(work for _, work in sums.values())
    found = []
    for (bits, form), (count, work) in sorted(
        sums.items(), key=lambda item: (item[0][0], item[0][1] == "float", item[0][1])
    ):
        words = form_words(form)
        title = words if bits == float("inf") else f"{bits:g} bits: {words}"
        shade = "none" if bits == float("inf") else "low" if bits <= 4 else "mid" if bits <= 8 else "high"
        found.append(Share(title, int(count), work / total if total > 0 else 0.0, shade))
    return found, weighted


def error_plot(document: Document) -> str | None:
    """The error of each layer in the order of execution; None where none was measured."""
    known = [(i, layer) for i, layer in enumerate(document.layers, 1) if layer.sqnr_db is not None]
    if not known:
        return None
    low = min(layer.sqnr_db or 0.0 for _, layer in known)
    high = max(layer.sqnr_db or 0.0 for _, layer in known)
    label = (
        f"Plot of the error of {len(known)} layers in the order of execution: SQNR from {low:.1f} to {high:.1f} dB, "
        "higher is better. The table of layers holds the same figures."
    )
    return both("layers", label, _HEIGHT, lambda axes, width: _draw(axes, width, known))


def _draw(axes: Axes, width: Width, known: list[tuple[int, Layer]]) -> None:
    from matplotlib.ticker import MaxNLocator

    size = 7 if len(known) <= 80 else 4.5
    for group in GROUPS:
        own = [(i, layer.sqnr_db or 0.0) for i, layer in known if group_of(layer) is group]
        if own:
            axes.plot(
                [i for i, _ in own],
                [y for _, y in own],
                linestyle="none",
                marker=group.marker,
                markersize=size,
                color=group.colour,
                markerfacecolor=PAPER if group is GROUPS[3] else group.colour,
                markeredgewidth=0.8,
            )
    axes.margins(x=0.03, y=0.1)
    low, high = axes.get_ylim()
    axes.set_ylim(low - (high - low) * _BENEATH, high)
    axes.tick_params(length=0)
    axes.xaxis.set_major_locator(MaxNLocator(8 if width.name == "wide" else 5, integer=True))
    axes.set_xlabel("layer, in the order of execution (# in the table)")
    axes.set_title("↑ better: SQNR against float, dB", loc="left", fontsize="medium", color=INK)
    worst = sorted(known, key=lambda pair: (pair[1].sqnr_db or 0.0, pair[0]))[: _NAMED[width.name]]
    named = [Named(i, layer.sqnr_db or 0.0, shortened(layer.name, _LONGEST[width.name])) for i, layer in worst]
    write_names(axes, named, [(i, layer.sqnr_db or 0.0) for i, layer in known])


def largest_errors(document: Document) -> list[Layer]:
    """The layers with the lowest SQNR, lowest first: a crowded plot has no room for their names."""
    known = [layer for layer in document.layers if layer.sqnr_db is not None]
    return sorted(known, key=lambda layer: layer.sqnr_db or 0.0)[: _NAMED["wide"]]
