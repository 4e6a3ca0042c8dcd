"""The command in processes that have imported torch already: each takes seconds to do so, and a test runs a dozen of them.

A server that has loaded torch and its exporter, most of which is loaded at its first use, forks one process a command. What
the command does from there on is what it does in a fresh process: its own arguments, output, exit code. That the imports are
quiet is for fresh ones to show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import fewbit

_PRELOADED = ("torch", "onnxruntime", "fewbit.cli.main")


class Warm:
    """Runs `fewbit` like a subprocess; use it as a context."""

    def __enter__(self) -> Warm:
        code = "from tests.cli.warm import serve; serve()"
        self._server = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._folder = tempfile.TemporaryDirectory()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.communicate()
        self._folder.cleanup()

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [*map(str, arguments)]
        out, err = (Path(self._folder.name) / name for name in ("out", "err"))
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps([words, str(out), str(err)]) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def serve() -> None:
    """Fork a process for every line on stdin, and answer with its exit code."""
    for name in _PRELOADED:
        __import__(name)
    torch = sys.modules["torch"]
    torch.set_num_threads(1)  # threads do not survive a fork
    fewbit.load(torch.nn.Linear(2, 2), example_inputs=torch.zeros(1, 2))
    for line in sys.stdin:
        words, *files = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(words, files)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(words: list[str], files: list[str]) -> None:
    from fewbit.cli.main import run

    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["fewbit", *words]
    code = 1
    try:
        run()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
