"""Tell what a file is from its first bytes, to say more than "not an ONNX model"."""

from __future__ import annotations

import struct

# (offset, bytes, what it is and what to do)
_MAGIC = (
    (4, b"TFL3", "it is a LiteRT (.tflite) model, which `fewbit.load` and the commands open"),
    (4, b"ORTM", "it is in ONNX Runtime's .ort format; give the .onnx file it was made from"),
    (4, b"ET12", "it is an ExecuTorch (.pte) program; export the torch model to ONNX"),
    (0, b"PK\x03\x04", "it is a zip archive, but none of PyTorch or Keras; export the model to ONNX first"),
    (0, b"\x80\x02", "it is a Python pickle (a PyTorch checkpoint?); export the model to ONNX first"),
    (0, b"\x80\x03", "it is a Python pickle (a PyTorch checkpoint?); export the model to ONNX first"),
    (0, b"\x80\x04", "it is a Python pickle (a PyTorch checkpoint?); export the model to ONNX first"),
    (0, b"\x89HDF\r\n", "it is an HDF5 file (a Keras .h5 model?); convert it to ONNX first"),
    (0, b"GGUF", "it is a GGUF file; there is no graph in it that could be quantized here"),
    (0, b"\x93NUMPY", "it is a numpy array; as data it goes to --data"),
    (0, b"\x1f\x8b", "it is gzip-compressed; unpack it first"),
    (0, b"<?xml", "it is XML (an OpenVINO model?); give the ONNX file it was made from"),
    (0, b"version https://git-lfs", "it is a git-lfs pointer; fetch the file with `git lfs pull`"),
)


def describe_file(start: bytes, size: int) -> str | None:
    """What the file is, when it is certainly no ONNX model.

    start: its first bytes, up to 4096.
    size: its length in bytes.
    """
    if size == 0:
        return "it is empty"
    for offset, magic, text in _MAGIC:
        if start[offset : offset + len(magic)] == magic:
            return text
    if is_safetensors(start, size):
        return "it is a safetensors file; it has weights but no graph, export the model to ONNX"
    if start[:1] in b"{<[" or start.lstrip()[:1] in (b"{", b"<"):
        return "it is a text file"
    return None


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file of this size that begins so is one of safetensors: the length of a header, then JSON."""
    return len(start) > 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < size
