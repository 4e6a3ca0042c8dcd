"""Samples: where they come from, and whether they fit the model."""

from __future__ import annotations

from fewbit.data.check import InputInfo
from fewbit.data.source import DataSource, Sample, open_source

__all__ = ["DataSource", "InputInfo", "Sample", "open_source"]
