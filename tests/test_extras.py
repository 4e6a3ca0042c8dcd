from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from fewbit.errors import InputError, MissingExtraError
from fewbit.extras import EXTRAS, load_extra
from tests.conftest import ROOT


def test_a_missing_package_yields_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "no_such_module", ("no-such-package", "images"))
    with pytest.raises(MissingExtraError) as caught:
        load_extra("no_such_module.part", "drawing")
    assert str(caught.value) == "drawing needs the package no-such-package: pip install 'fewbit[images]'"


def test_a_package_that_does_not_load_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_package.py").write_text("import a_dependency_of_it\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXTRAS, "broken_package", ("broken", "images"))
    with pytest.raises(InputError, match=r"installed but does not load .*a_dependency_of_it") as caught:
        load_extra("broken_package", "drawing")
    assert not isinstance(caught.value, MissingExtraError)
    assert "broken_package" not in sys.modules


def test_a_module_of_a_package(tmp_path: Path) -> None:
    assert load_extra("PIL.Image", "drawing").new("L", (2, 1)).size == (2, 1)


def test_each_package_is_in_the_extra_that_is_named() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRAS.values():
        assert package in [re.split(r"[><=\[;]", line)[0] for line in extras[extra]], package
    cheap = {"images", "text", "detection"}
    assert extras["all"] == ["fewbit[images,text,detection]"]
    assert cheap | {"torch", "litert", "keras", "executorch", "openvino", "vela", "ray", "all", "dev"} == set(extras)
