"""Native code that chats on stderr while it loads: its news is kept off the terminal, and all else is passed on."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LOCK = threading.Lock()
_STDERR = 2
_NEWS = re.compile(rb"INFO: .*(TensorFlow Lite|XNNPACK|[Dd]elegate)|\[(cpuinfo_utils|threadpool)\.cpp")


@contextmanager
def quiet_native() -> Iterator[None]:
    """Hold back what the process writes to the descriptor of stderr, and write it after the block, less the lines of LiteRT
    that begin with INFO and those of ExecuTorch on the CPU and its threads.

    One thread at a time; lines of other threads come late, not lost."""
    with _LOCK, tempfile.TemporaryFile() as held:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # a process without stderr: nothing to keep quiet
            yield
            return
        _flush()
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, _STDERR)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _NEWS.match(line):
                    os.write(_STDERR, line)


def _flush() -> None:
    """Python's own buffer belongs to the side on which it was written."""
    with suppress(AttributeError, ValueError):  # sys.stderr is None, or closed
        sys.stderr.flush()
