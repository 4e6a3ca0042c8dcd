"""The collection of cases: a folder with zoo.py, outside the project."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def zoo_folder(given: str | None = None) -> Path:
    """The folder of the cases, or an exit with the reason."""
    folder = Path(given or os.environ.get("FEWBIT_ZOO") or ROOT.parent / "shared" / "zoo")
    if not (folder / "zoo.py").is_file():
        sys.exit(f"{folder} has no zoo.py: give --zoo or FEWBIT_ZOO")
    return folder


def load_zoo(folder: Path) -> Any:
    """The module zoo.py."""
    spec = importlib.util.spec_from_file_location("zoo", folder / "zoo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module
