"""The manifest: all that the chosen model was made from, so that it can be made again, byte for byte."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from fewbit.errors import DataError, ModelError, RecipeError, VerificationError
from fewbit.flow.auto.document import Header
from fewbit.flow.auto.entries import FLOAT
from fewbit.flow.auto.found import Found
from fewbit.flow.auto.setup import PARTS, Setup, Splits, described, file_digest
from fewbit.flow.auto.work import build, float_twin
from fewbit.progress import SILENT, Progress

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
_PACKAGES = ("fewbit", "numpy", "scipy", "onnx", "onnx-ir", "onnxruntime", "ai-edge-litert", "executorch", "torch")


@dataclass(frozen=True, slots=True)
class Reproduced:
    """A model that was made again. same: whether it is the recorded one, byte for byte."""

    path: Path
    sha256: str
    expected: str
    differing_versions: Mapping[str, tuple[str | None, str | None]]

    @property
    def same(self) -> bool:
        return self.sha256 == self.expected

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "same": self.same,
            "sha256": self.sha256,
            "expected": self.expected,
            "differing_versions": {name: list(pair) for name, pair in self.differing_versions.items()},
        }


def manifest(header: Header, setup: Setup, found: Found, model: Path | None) -> dict[str, Any]:
    """What made the chosen model."""
    assert found.chosen is not None and found.splits is not None and model is not None
    return {
        "schema_version": SCHEMA_VERSION,
        "created": header.created,
        "command": header.command,
        "versions": versions(),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "model": {"path": setup.model, "sha256": file_digest(setup.model), "signature": setup.signature},
        "data": described(setup.data),
        "evaluation": described(setup.evaluation),
        "certification": described(setup.certification),
        "metric": described(setup.metric),
        "preprocess": setup.preprocess,
        "target": setup.target,
        "seed": setup.seed,
        "confidence": setup.confidence,
        "calibration_limit": setup.calibration_limit,
        "splits": found.splits.to_dict(),
        "splits_sha256": {part: _positions_digest(getattr(found.splits, part)) for part in PARTS},
        "candidate": {"id": found.chosen.id, **found.chosen.candidate.asked()},
        "output": {"file": model.name, "sha256": file_digest(model)},
    }


def versions() -> dict[str, str | None]:
    """Of the packages that decide what a file holds; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def reproduce(
    path: str | Path,
    out: str | Path,
    *,
    model: str | Path | None = None,
    data: Any = None,
    progress: Progress = SILENT,
) -> Reproduced:
    """Make the model of a manifest again, from the float model and the samples.

    Args:
        path: manifest.json. out: the file to write.
        model, data: where the float model and the samples are now; None: where they were.

    Raises:
        RecipeError: no manifest, or of another version. ModelError: the float model is another one.
        DataError: the samples were objects of a program, and are not given.
        VerificationError: what was made is another file; the message says which versions differ.
    """
    told = _read(Path(path))
    source = Path(model if model is not None else told["model"]["path"])
    if not source.is_file():
        raise ModelError(f"{source} does not exist: give the float model's place with --model")
    if file_digest(source) != told["model"]["sha256"]:
        raise ModelError(
            f"{source} is not the model of the manifest: its SHA-256 is {file_digest(source)[:12]}…, there "
            f"{told['model']['sha256'][:12]}…"
        )
    samples = data if data is not None else told["data"]
    if samples is None:
        raise DataError("the samples were given as an object: give them again with --data")
    setup = Setup(
        str(source),
        samples,
        told["evaluation"],
        told["certification"],
        told["metric"],
        told["preprocess"],
        told["target"],
        told["seed"],
        told["confidence"],
        told["calibration_limit"],
        told["model"]["signature"],
    )
    splits = Splits.from_dict(told["splits"])
    with tempfile.TemporaryDirectory(prefix="fewbit-") as name:
        folder = Path(name)
        if told["candidate"]["id"] == FLOAT:
            made = float_twin(setup, splits, folder, progress)
        else:
            made = build(setup, splits, told["candidate"], folder, progress)
        data_bytes = (folder / made["file"]).read_bytes()
    digest = hashlib.sha256(data_bytes).hexdigest()
    now = versions()
    differing = {n: (told["versions"].get(n), now[n]) for n in now if told["versions"].get(n) != now[n]}
    result = Reproduced(Path(out), digest, told["output"]["sha256"], differing)
    if not result.same:
        why = ", ".join(f"{n} {a} then, {b} now" for n, (a, b) in differing.items()) or "all versions are the same"
        raise VerificationError(
            f"the file that was made is another one ({digest[:12]}…, recorded {told['output']['sha256'][:12]}…): {why}; "
            "samples or CPU may differ too"
        )
    from fewbit.graph.atomic import atomic_files

    with atomic_files(Path(out)) as (file,):
        file.write(data_bytes)
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"{path} is not JSON: {error}") from error
    if not isinstance(told, dict) or "candidate" not in told or "schema_version" not in told:
        raise RecipeError(f"{path} is no manifest of a search: it has no candidate and schema_version")
    if told["schema_version"] != SCHEMA_VERSION:
        raise RecipeError(f"{path} has version {told['schema_version']}, and this fewbit reads {SCHEMA_VERSION}")
    return told


def _positions_digest(positions: Any) -> str:
    return hashlib.sha256(json.dumps(list(map(int, positions))).encode()).hexdigest()
