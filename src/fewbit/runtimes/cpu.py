"""What the CPU can do, as far as quantization cares."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CpuFeatures:
    """name, cores, and whether there are 8-bit dot products.

    vnni: on x86 whether products of u8·s8 are summed in 32 bits (AVX512-VNNI, AVX-VNNI or AMX); None elsewhere, where the
    question does not arise, or where it cannot be found out.
    """

    name: str
    cores: int
    vnni: bool | None
    flags: tuple[str, ...]


_RELEVANT = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


@cache
def cpu_features() -> CpuFeatures:
    """Features of this machine's CPU."""
    machine = platform.machine().lower()
    text = ""
    with suppress(OSError):  # not Linux: the flags stay unknown
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    vnni = None
    if machine in ("x86_64", "amd64", "i686") and flags:
        vnni = bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})
    name = fields.get("model name") or platform.processor() or machine
    return CpuFeatures(name, os.cpu_count() or 1, vnni, tuple(f for f in _RELEVANT if f in flags))
