"""Draw docs/demo.svg, the README's picture: what `fewbit demo` prints, on this machine."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from fewbit.report.demo import render

TARGET = Path(__file__).resolve().parent.parent / "docs" / "demo.svg"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fewbit", "demo", "-o", "fewbit-demo", "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    data = json.loads(done.stdout)
    data["quantize"]["calibration"]["source"] = "calibration.npz"
    console = Console(record=True, width=96, file=io.StringIO())
    console.print(render(data))
    svg = console.export_svg(title="fewbit demo")
    # No font is fetched from anywhere: the reader's own monospace font does.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    TARGET.write_text(svg, encoding="utf-8")


main()
