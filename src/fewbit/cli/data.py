"""fewbit data"""

from __future__ import annotations

import typer

app = typer.Typer(help="Samples: whether they serve, and which to calibrate on.")
