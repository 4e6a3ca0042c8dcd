"""Checkpoints: tensors and JSON in one safetensors file, which appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewbit.errors import OutputError, PlanError

SCHEMA_VERSION = 1
_META = "fewbit"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where a job stands.

    identity: what the job is (graph, recipe, settings); only a job that is the same goes on from here.
    stage: what was under way. state: its counters, as JSON data. tensors: its tensors by name.
    """

    identity: Mapping[str, Any]
    stage: str
    state: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def save(self, path: Path) -> None:
        """Write; a file that was there is replaced at once.

        Raises:
            OutputError: the folder cannot be written.
        """
        meta = {"schema_version": SCHEMA_VERSION, "identity": self.identity, "stage": self.stage, "state": self.state}
        part = path.with_suffix(".part")
        try:
            save_file(
                {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in self.tensors.items()},
                part,
                {_META: json.dumps(meta)},
            )
            os.replace(part, path)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"checkpoint {path} cannot be written: {' '.join(str(error).split())}") from error

    @staticmethod
    def load(path: Path, identity: Mapping[str, Any]) -> Checkpoint:
        """Read what `save` wrote.

        Raises:
            PlanError: damaged, of another version, or of another job; names what differs.
        """
        try:
            with safe_open(path, "pt") as file:
                meta = json.loads((file.metadata() or {})[_META])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise PlanError(
                f"checkpoint {path} cannot be read ({type(error).__name__}): remove the session folder to start anew"
            ) from error
        if meta["schema_version"] != SCHEMA_VERSION:
            raise PlanError(
                f"checkpoint {path} has schema version {meta['schema_version']}, this fewbit reads {SCHEMA_VERSION}: "
                "remove the session folder to start anew"
            )
        other = meta["identity"]
        differ = [key for key in {**identity, **other} if identity.get(key) != other.get(key)]
        if differ:
            if "recipe" in differ:
                differ = [key for key in differ if key != "rules"]  # whose text is long, and follows from the name
            told = "; ".join(f"{key} was {other.get(key)}, now {identity.get(key)}" for key in differ)
            raise PlanError(
                f"checkpoint {path} is of another job: {told}; give the same settings or another --session folder"
            )
        return Checkpoint(other, meta["stage"], meta["state"], tensors)
