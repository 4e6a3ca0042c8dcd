"""How long work reports its progress, without knowing who looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Something that shows progress."""

    def task(self, label: str, total: int | None) -> AbstractContextManager[Advance]:
        """A task of `total` steps (None: unknown); the context gives a function that advances it."""

    def note(self, text: str) -> None:
        """A line the user should see."""


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, label: str, total: int | None) -> Iterator[Advance]:
        yield lambda _: None

    def note(self, text: str) -> None:
        pass


SILENT = Silent()
