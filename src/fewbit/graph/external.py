"""Check external data without reading it: that it is there, long enough, and inside the model's folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx_ir as ir

from fewbit.errors import ModelError
from fewbit.graph.tensors import every_tensor


def check_external_data(model: ir.Model, folder: Path, label: str) -> None:
    """Raise ModelError for the first tensor whose external data cannot be used; tell all where their folder is.

    A location has to stay inside the model's folder, also when symbolic links are followed: a model must not be able to
    make its user read another file.
    """
    sizes: dict[str, int] = {}
    root = os.path.realpath(folder)
    for name, tensor in every_tensor(model):
        if isinstance(tensor, ir.ExternalTensor):
            tensor.base_dir = root
            location = os.fspath(tensor.location)
            if location not in sizes:
                sizes[location] = _size(location, name, root, label)
            _check_range(tensor, name, sizes[location], label)


def _size(location: str, name: str, root: str, label: str) -> int:
    """Bytes of the file at this location."""
    where = f"{label}: the external data of tensor {name!r}, {location!r},"
    if not location or PurePosixPath(location).is_absolute() or PureWindowsPath(location).is_absolute():
        raise ModelError(f"{where} is not a relative path; save the model again with its data beside it")
    path = os.path.join(root, location)
    if not _inside(os.path.normpath(path), root):
        raise ModelError(f"{where} leads out of the model's folder; put the file beside the model")
    if not _inside(os.path.realpath(path), root):
        raise ModelError(f"{where} is a symbolic link out of the model's folder; copy the file itself beside the model")
    try:
        status = os.stat(path)
    except OSError:
        raise ModelError(f"{where} is missing in {root}") from None
    if not os.path.isfile(path):
        raise ModelError(f"{where} is not a file")
    if status.st_nlink > 1:
        # onnx_ir refuses such files when they are read; a hard link hides where a file belongs.
        raise ModelError(f"{where} has {status.st_nlink} hard links; copy the file instead")
    return status.st_size


def _inside(path: str, root: str) -> bool:
    return os.path.commonpath([root, path]) == root


def _check_range(tensor: ir.ExternalTensor, name: str, size: int, label: str) -> None:
    offset, length = tensor.offset or 0, tensor.length
    where = f"{label}: tensor {name!r}"
    if length is not None and length != tensor.nbytes:
        raise ModelError(
            f"{where} of type {tensor.dtype.name} and shape {tuple(tensor.shape.numpy())} has {tensor.nbytes} bytes, "
            f"but its external data says {length}"
        )
    if offset < 0 or offset + tensor.nbytes > size:
        raise ModelError(
            f"{where} lies at bytes {offset} to {offset + tensor.nbytes} of {os.fspath(tensor.location)!r}, "
            f"which has {size} bytes; the file is truncated, copy it again"
        )
