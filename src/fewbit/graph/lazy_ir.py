"""Import onnx_ir without sympy.

onnx_ir uses sympy only for arithmetic on symbolic dimensions, which fewbit does not do, and imports it eagerly: 0.27 of
the 0.41 CPU-seconds of `import onnx_ir` (`python -X importtime`). Here both are imported through the standard library's
LazyLoader, so they load on first use: nothing is replaced, and arithmetic on dimensions still works.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

# onnx_ir._symbolic_shapes reads attributes of sympy at import, so it has to be lazy as well.
_DEFERRED = ("sympy", "onnx_ir._symbolic_shapes")


class _Deferring:
    """A meta path finder that makes the deferred modules lazy and leaves the others to the finders after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _DEFERRED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def import_onnx_ir() -> ModuleType:
    """onnx_ir, imported without loading sympy unless something imported either before."""
    if "onnx_ir" not in sys.modules:
        finder = _Deferring()
        sys.meta_path.insert(0, finder)
        try:
            import onnx_ir  # noqa: F401
        finally:
            sys.meta_path.remove(finder)
    return sys.modules["onnx_ir"]
