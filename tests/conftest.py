"""What tests share: the demo network, and the collection of real models where there is one."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fewbit import demo

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What searches keep between runs does not go to the user's cache folder."""
    os.environ["FEWBIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    """The module zoo.py of the collection that FEWBIT_ZOO names (../shared/zoo beside the project by default)."""
    folder = Path(os.environ.get("FEWBIT_ZOO") or ROOT.parent / "shared" / "zoo")
    if not (folder / "zoo.py").is_file():
        pytest.skip(f"no collection of models at {folder}; set FEWBIT_ZOO")
    spec = importlib.util.spec_from_file_location("zoo", folder / "zoo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def digits() -> Path:
    """The demo network: a float CNN with batch normalization, residual additions and a depthwise layer."""
    return demo.MODEL


@pytest.fixture
def samples() -> Path:
    """Calibration samples of the demo network."""
    return demo.CALIBRATION
