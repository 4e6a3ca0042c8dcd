"""Packages that are installed here, for tests of what is said where they are not."""

from __future__ import annotations

import sys

import pytest


def hide(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a package be missing until the test ends, also where it was imported already."""

    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name == package:
                raise ModuleNotFoundError("there is none", name=name)

    for name in [name for name in sys.modules if name.startswith(package)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
