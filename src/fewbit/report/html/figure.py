"""Figures of matplotlib as SVG that belongs to the page: its colours, its fonts, ids that meet no other figure's.

matplotlib draws with fixed colours. `INK` and the others are stand-ins: in the SVG each becomes the CSS variable of its
name, so one figure serves the light and the dark page. Text stays text: it can be read out, searched and copied.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that no figure would use by itself. Names are those of the variables in style.css.
INK, MUTED, LINE, PAPER = "#010101", "#010102", "#010103", "#010104"
ACCENT, BAD, WARN, FEW = "#010105", "#010106", "#010107", "#010108"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    PAPER: "paper",
    ACCENT: "accent",
    BAD: "bad",
    WARN: "warn",
    FEW: "few",
}

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_POINTS_PER_INCH = 72  # of matplotlib's SVG: one unit of its view box is a point


@dataclass(frozen=True, slots=True)
class Width:
    """A figure's width for a kind of screen: CSS class, width and font size in CSS pixels."""

    name: str
    pixels: int
    font: float


# A figure that is scaled down to a phone cannot be read: it is drawn twice, and style.css shows one.
WIDTHS = (Width("wide", 880, 13.0), Width("narrow", 350, 12.0))


def both(name: str, label: str, height: float, draw: Callable[[Axes, Width], None]) -> str:
    """Draw a figure for wide and for narrow screens.

    Args:
        name: of the figure, unique on the page.
        label: what it shows, for those who do not see it.
        height: in pixels.
        draw: fills the axes; called once for each width.

    Returns:
        Two `<svg>` elements, of the classes `wide` and `narrow`.
    """
    return "\n".join(_drawn(f"{name}-{width.name}", label, height, width, draw) for width in WIDTHS)


def _drawn(name: str, label: str, height: float, width: Width, draw: Callable[[Axes, Width], None]) -> str:
    with canvas(name, width.pixels, height, width.font) as figure:
        draw(figure.add_subplot(), width)
        return inline(figure, name, label, width.name)


@contextmanager
def canvas(name: str, width: float, height: float, font: float) -> Iterator[Figure]:
    """A figure of so many pixels, in matplotlib's own settings whatever the user's are, and those of this page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        # A letter that matplotlib's font has not is measured as a box: the browser has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": name,
                "text.parse_math": False,
                "font.size": font,
                "axes.labelsize": font,
                "xtick.labelsize": font,
                "ytick.labelsize": font,
                "text.color": INK,
                "axes.labelcolor": MUTED,
                "axes.edgecolor": LINE,
                "axes.facecolor": "none",
                "figure.facecolor": "none",
                "xtick.color": LINE,
                "ytick.color": LINE,
                "xtick.labelcolor": MUTED,
                "ytick.labelcolor": MUTED,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "grid.color": LINE,
                "grid.linewidth": 0.5,
                "lines.solid_capstyle": "round",
            }
        )
        figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH)
        FigureCanvasSVG(figure)
        figure.set_layout_engine("constrained", w_pad=4 / _POINTS_PER_INCH, h_pad=4 / _POINTS_PER_INCH)
        yield figure


def inline(figure: Figure, name: str, label: str, css: str) -> str:
    """A figure as an `<svg>` element for a page.

    Args:
        figure: from `canvas`.
        name: goes into every id.
        label: becomes the accessible name.
        css: the element's class.
    """
    raw = io.BytesIO()
    empty = {"Date": None, "Creator": None, "Format": None, "Type": None}  # they change without the figure
    figure.savefig(raw, format="svg", metadata=empty, transparent=True)
    root = ElementTree.fromstring(raw.getvalue())
    for parent in [*root.iter()]:
        for child in [*parent]:
            # It would hold for the whole page.
            if child.tag == f"{{{_SVG}}}style":
                parent.remove(child)
    targets = {use.get(_HREF, "")[1:] for use in root.iter(f"{{{_SVG}}}use")}
    targets |= {clip.get("id", "") for clip in root.iter(f"{{{_SVG}}}clipPath")}
    for element in root.iter():
        _tidy(element, targets, name)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("class", f"plot {css}")
    root.set("role", "img")
    root.set("aria-label", label)
    root.set("style", "stroke-linejoin: round")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ElementTree.tostring(root, encoding="unicode")


def _tidy(element: ElementTree.Element, targets: set[str], name: str) -> None:
    """The page's colours and font, short numbers, no id but those that are referred to."""
    own = element.get("id")
    if own is not None:
        if own in targets:
            element.set("id", f"{name}-{own}")
        else:
            del element.attrib["id"]
    for key, value in [*element.attrib.items()]:
        text = value
        if key == _HREF:
            text = f"#{name}-{value[1:]}"
        elif key == "clip-path":
            text = value.replace("url(#", f"url(#{name}-")
        elif key == "style":
            text = re.sub(r"font-family: [^;]*(; )?", "", value)
            for colour, variable in _VARIABLES.items():
                text = text.replace(colour, f"var(--{variable})")
        elif key == "d":
            text = " ".join(_rounded(value).split())
        elif key in ("x", "y", "transform", "width", "height"):
            text = "" if value.startswith("rotate(-0 ") else _rounded(value)
        if text:
            element.set(key, text)
        else:
            del element.attrib[key]
    if element.text and not element.text.strip():
        element.text = None
    if element.tail and not element.tail.strip():
        element.tail = None


def _rounded(numbers: str) -> str:
    return re.sub(r"-?\d+\.\d+", lambda found: f"{float(found.group()):.4g}", numbers)
