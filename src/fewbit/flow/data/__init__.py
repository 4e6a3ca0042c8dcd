"""The jobs behind `fewbit data`: whether samples serve, and which of them to calibrate on."""

from __future__ import annotations

from fewbit.flow.data.check import DataCheck, check_data
from fewbit.flow.data.select import Selection, select_data

__all__ = ["DataCheck", "Selection", "check_data", "select_data"]
