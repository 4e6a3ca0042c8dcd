"""Older plan files become current ones."""

from __future__ import annotations

from typing import Any

from fewbit.errors import PlanError
from fewbit.plan.plan import SCHEMA_VERSION


def migrate(document: dict[str, Any], source: str) -> dict[str, Any]:
    """The document in the current schema. There is one version so far, so this only refuses others.

    Raises:
        PlanError: a version that this fewbit does not know.
    """
    version = document["schema_version"]
    if version != SCHEMA_VERSION:
        raise PlanError(
            f"plan {source} has schema_version {version!r}, this fewbit reads {SCHEMA_VERSION}; make the plan again"
        )
    return document
