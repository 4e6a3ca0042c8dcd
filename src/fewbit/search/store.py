"""The store of a session: every finished piece of work is there for good, under the key of what was asked.

A piece of work is named by a key that says all it depends on. Who wants it looks here first; so a search that was killed goes
on by running again from its start, and does only what is not here.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fewbit.errors import OutputError, RecipeError

SCHEMA_VERSION = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS work (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, label TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    result TEXT, seconds REAL, attempts INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """A piece of work that was finished: `done` with what it gave, or `failed` with `{"reason": …}`.

    seconds: that it took. attempts: how often it was begun.
    """

    state: Literal["done", "failed"]
    result: Mapping[str, Any]
    seconds: float
    attempts: int


class Store:
    """One SQLite file, held by one process.

    Raises:
        OutputError: another process holds it, or the folder cannot be written.
        RecipeError: it is of another version.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout

        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(str(folder / "lock"))
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"session {folder} is in use by process {_holder(folder)}: wait for it, or give another folder"
            ) from None
        except OSError as error:
            raise OutputError(f"session {folder} cannot be written: {error.strerror}") from error
        (folder / "holder").write_text(f"{os.getpid()}\n")
        try:
            self._open(folder / "store.sqlite")
        except sqlite3.Error as error:
            self._lock.release()
            raise OutputError(f"session {folder} cannot be opened: {error}; remove the folder to start anew") from error
        except RecipeError:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")  # what is committed survives a power cut
        self._connection.executescript(_TABLES)
        version = self.fact("schema_version")
        if version is None:
            self.set_fact("schema_version", SCHEMA_VERSION)
        elif version != SCHEMA_VERSION:
            raise RecipeError(
                f"session {self.folder} has version {version}, and this fewbit writes {SCHEMA_VERSION}; start a new one"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fact(self, name: str) -> Any:
        """A fact about the session, None where it was not set."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: Any) -> None:
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def finished(self, key: str) -> Finished | None:
        """What the work of this key gave, None where it was never finished."""
        row = self._connection.execute(
            "SELECT state, result, seconds, attempts FROM work WHERE key = ? AND state != 'running'", (key,)
        ).fetchone()
        return None if row is None else Finished(row[0], json.loads(row[1]), row[2], row[3])

    def begin(self, key: str, kind: str, label: str) -> None:
        """Note that work begins."""
        self._connection.execute(
            "INSERT INTO work (key, kind, label, state, attempts) VALUES (?, ?, ?, 'running', 1) "
            "ON CONFLICT (key) DO UPDATE SET state = 'running', attempts = attempts + 1",
            (key, kind, label),
        )

    def finish(self, key: str, state: Literal["done", "failed"], result: Mapping[str, Any], seconds: float) -> None:
        """Keep what work gave; it is on the disk when this returns."""
        self._connection.execute(
            "UPDATE work SET state = ?, result = ?, seconds = ? WHERE key = ?",
            (state, json.dumps(result, allow_nan=False), seconds, key),
        )

    def attempts(self) -> dict[str, int]:
        """How often each piece of work was begun, by its key."""
        return dict(self._connection.execute("SELECT key, attempts FROM work"))


def work_key(kind: str, asked: Mapping[str, Any]) -> str:
    """The key of work of a kind, by all that it depends on (plain data)."""
    text = json.dumps(asked, sort_keys=True, default=str)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def _holder(folder: Path) -> str:
    try:
        return (folder / "holder").read_text().strip()
    except OSError:
        return "another"
