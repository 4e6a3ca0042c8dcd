"""Optional packages: which extra of fewbit brings each, and what is said where one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fewbit.errors import InputError, MissingExtraError

EXTRAS: dict[str, tuple[str, str]] = {  # module: (package, extra)
    "PIL": ("pillow", "images"),
    "rapidfuzz": ("rapidfuzz", "text"),
    "pycocotools": ("pycocotools", "detection"),
    "torch": ("torch", "torch"),
    "onnxscript": ("onnxscript", "torch"),
    "ai_edge_litert": ("ai-edge-litert", "litert"),
    "tensorflow": ("tensorflow", "keras"),
    "executorch": ("executorch", "executorch"),
    "openvino": ("openvino", "openvino"),
    "ethosu": ("ethos-u-vela", "vela"),
    "ray": ("ray", "ray"),
}


def load_extra(module: str, purpose: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: its dotted name; the first part is in `EXTRAS`.
        purpose: what needs it, as the beginning of a sentence.

    Raises:
        MissingExtraError: not installed; the message has the pip command.
        InputError: installed, but it cannot be imported; the message has the reason.
    """
    top = module.split(".", maxsplit=1)[0]
    package, extra = EXTRAS[top]
    try:
        return import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            raise MissingExtraError(package, extra, purpose) from error
        why = " ".join(str(error).split())
        raise InputError(
            f"{purpose} needs the package {package}, which is installed but does not load ({why}): "
            f"pip install --force-reinstall 'fewbit[{extra}]'"
        ) from error
