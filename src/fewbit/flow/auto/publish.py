"""What a search leaves in its folder: the best model so far and its plan, at any moment; at the end the page and the
manifest."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewbit.flow.auto.document import Header, document
from fewbit.flow.auto.entries import FLOAT, Entry
from fewbit.flow.auto.found import Found, Options
from fewbit.flow.auto.manifest import MANIFEST, manifest
from fewbit.flow.auto.setup import Setup
from fewbit.flow.common import target_for
from fewbit.flow.formats import format_of
from fewbit.graph.atomic import atomic_files
from fewbit.report.html import write_html

DOCUMENT, PAGE, MODEL = "auto.json", "report.html", "model"
_MODEL_FILES = (MODEL, FLOAT)


class Publisher:
    """Writes to the folder of results. begun: time.monotonic() when the search began."""

    def __init__(self, out: Path, session: Path, header: Header, setup: Setup, options: Options, begun: float) -> None:
        self.out, self.session = out, session
        self.header, self.setup, self.options, self.begun = header, setup, options, begun
        self._published = ""
        self._known = 0

    def update(self, found: Found) -> dict[str, Any]:
        """The document as it is now; the best model so far appears in the folder when it changes."""
        if found.chosen is not None and found.chosen.files != self._published:
            self._publish(found.chosen)
        told = document(self.header, self.setup, self.options, found, time.monotonic() - self.begun)
        known = sum(entry.status not in ("waiting", "working") for entry in found.entries)
        if known != self._known:
            self._known = known
            _write_json(self.out / DOCUMENT, told)  # `fewbit report` shows a search that goes on, or was killed
        return told

    def finish(self, found: Found) -> dict[str, Any]:
        """Write what remains: the chosen model, the manifest, the document and the page. Without a choice, no model stays."""
        final = self.update(found)
        if found.chosen is None:
            self._clear(keep=set())
        else:
            _write_json(self.out / MANIFEST, manifest(self.header, self.setup, found, self.model_path(found)))
        _write_json(self.out / DOCUMENT, final)
        write_html(final, self.out / PAGE)
        return final

    def model_path(self, found: Found) -> Path | None:
        """Where the chosen model is."""
        if found.chosen is None:
            return None
        return self.out / f"{MODEL}{format_of(target_for(self.setup.target)).suffix}"

    def _publish(self, entry: Entry) -> None:
        """Copy a candidate's files, each whole or not at all, the model last; then remove those of the one before."""
        files = sorted(Path(entry.files).iterdir(), key=lambda p: p.suffix == self._suffix)
        names = set()
        for path in files:
            name = path.name.replace(FLOAT, MODEL, 1) if path.name.startswith(FLOAT) else path.name
            temporary = self.out / f".{name}.tmp"
            shutil.copyfile(path, temporary)
            os.replace(temporary, self.out / name)
            names.add(name)
        self._clear(keep=names)
        self._published = entry.files

    def _clear(self, keep: set[str]) -> None:
        for pattern in (f"{MODEL}.*", "plan*.safetensors", "plan.json", MANIFEST):
            for path in self.out.glob(pattern):
                if path.name not in keep:
                    path.unlink()

    @property
    def _suffix(self) -> str:
        return format_of(target_for(self.setup.target)).suffix


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    with atomic_files(path) as (file,):
        file.write((json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
