"""The page as a whole."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewbit.report.document import Document, parse
from fewbit.report.html.against import against_plot
from fewbit.report.html.frontier import frontier_plot, plotted_objective
from fewbit.report.html.layers import GROUPS, error_plot, group_of, largest_errors, shares
from fewbit.report.html.view import CANDIDATE_HEADS, LAYER_HEADS, candidate_rows, findings, layer_row, sources, tiles
from fewbit.report.judge import KINDS, kind, sentence

_HERE = Path(__file__).parent


def write_html(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the page: one file without scripts from elsewhere, fonts or pictures, the same bytes for the same document.

    Args:
        data: what `fewbit auto --json` prints (see `fewbit.report.document`).
        path: the file; it is replaced whole or not at all.

    Raises:
        InputError: the document is of another schema version or malformed.
        OutputError: the file cannot be written.
    """
    from fewbit.graph.atomic import atomic_files

    text = page(parse(data))
    with atomic_files(Path(path)) as (file,):
        file.write(text.encode())


def page(document: Document) -> str:
    """The page's text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = lambda name: Markup("<wbr>").join(re.split(r"(?<=[/._])", name))
    script = (_HERE / "sort.js").read_text(encoding="utf-8")
    plot = frontier_plot(document)
    against, errors = against_plot(document), error_plot(document)
    by_precision, weighted = shares(document.layers)
    verdict = kind(document)
    groups = {group_of(layer) for layer in document.layers if layer.sqnr_db is not None}
    # Markup: the plots, escaped by their serializer, and the project's own files. All else is escaped by the template.
    text = environment.get_template("page.html").render(
        document=document,
        style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        kind=verdict,
        kind_sign=KINDS[verdict][0],
        kind_word=KINDS[verdict][1],
        sentence=sentence(document),
        tiles=tiles(document),
        plot=plot,
        plot_svg=Markup(plot.svg) if plot is not None else None,
        other_axis=plot is not None and plotted_objective(document) != document.scale,
        against=None if against is None else Markup(against),
        findings=findings(document),
        errors=None if errors is None else Markup(errors),
        groups=[group for group in GROUPS if group in groups],
        largest=largest_errors(document),
        shares=by_precision,
        weighted=weighted,
        layers=[layer_row(i, layer) for i, layer in enumerate(document.layers, 1)],
        layer_heads=LAYER_HEADS,
        candidates=candidate_rows(document),
        candidate_heads=CANDIDATE_HEADS,
        sources=sources(document),
    )
    return text.rstrip() + "\n"
