"""What would run when a file is loaded, found before it is loaded. Why each check is there: docs/adr/0013."""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fewbit.errors import ModelError
from fewbit.extras import load_extra

OPT_IN = "allow it with --allow-pickle (allow_pickle=True) if you trust whoever made the file with your account"

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_UNPICKLER = "WeightsUnpickler error:"  # what comes before it in an error of torch is advice

_COMPILED = "data/aotinductor/"
_OLD_GRAPH = "serialized_exported_program.json"
_PICKLED_OBJECTS = ("custom_obj_", "opaque_obj_")

_WRITES_FILES = re.compile(r"\b(save|from_file)\b|getattr\s*\(\W*(torch|ops)\b")
"""The operators of TorchScript that reach files, in whatever spelling: aten::save and aten::from_file."""

_SYMPY_FUNCTIONS = frozenset(
    (
        *(
            "Symbol",
            "Integer",
            "Float",
            "Rational",
            "Min",
            "Max",
            "Add",
            "Mul",
            "Abs",
            "Mod",
            "Pow",
            "ceiling",
            "floor",
            "sqrt",
            "log",
        ),
        *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not"),
        *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv"),
        *("LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt"),
        *("RoundToInt", "RoundDecimal", "ToFloat", "Identity", "IsNonOverlappingAndDenseIndicator"),
    )
)
_SYMPY_NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Name, ast.Constant, ast.Load),
    *(ast.operator, ast.unaryop, ast.cmpop),
)


def unpickle(source: Path | io.BytesIO, label: str, *, allow_pickle: bool, where: str = "") -> Any:
    """The content of a file of torch.save: tensors and plain containers, or anything when pickles are allowed.

    Args:
        label: the file, for messages. where: the member of it, for messages.

    Raises:
        ModelError: unpickling it would run code, or it is damaged.
    """
    torch = load_extra("torch", "a PyTorch model")
    from pickle import UnpicklingError

    name = f"{label} ({where})" if where else label
    try:
        return torch.load(source, map_location="cpu", weights_only=not allow_pickle)
    except UnpicklingError as error:
        found = refers_to(error)
        if allow_pickle or not found:
            why = str(error).rpartition(_UNPICKLER)[2]
            raise ModelError(f"{name} is damaged, or torch.save did not write it: {_first_line(why)}") from error
        raise ModelError(
            f"{name} is refused: unpickling it would run Python code, it refers to {found}; save the weights alone "
            f"(torch.save(module.state_dict(), ...)) or export the module (torch.export.save), or {OPT_IN}"
        ) from error
    except Exception as error:
        raise ModelError(f"{name} is damaged, or needs code that is not here: {_first_line(str(error))}") from error


def refers_to(error: Exception) -> str | None:
    """The Python object that a pickle wanted, by an error of torch.load that refused it; None for other errors."""
    found = _GLOBAL.search(str(error))
    return found[1] if found else None


def check_archive(path: Path) -> None:
    """Compare the checksums of an archive, which torch does not when it loads one: a flipped bit would be a wrong weight.

    Raises:
        ModelError: damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise ModelError(f"{path} is a truncated or damaged archive ({error}); copy or save it again") from error
    if bad is not None:
        raise ModelError(f"{path} is damaged: the checksum of its member {bad} is wrong; copy or save it again")


def check_script(path: Path) -> None:
    """Refuse a TorchScript archive whose code writes or reads files.

    Its code runs in TorchScript's own interpreter, partly on loading (`__setstate__`), which knows nothing of Python.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            inner = _inner(member)
            if inner.startswith("code/") and inner.endswith(".py"):
                found = _WRITES_FILES.search(archive.read(member).decode("utf-8", errors="replace"))
                if found:
                    raise ModelError(
                        f"{path} is refused: its code in {member} says {found[0]!r}, and TorchScript's save and from_file "
                        f"write and read any file; take it out and script the module again, or {OPT_IN}"
                    )


def check_program(path: Path) -> None:
    """Refuse an exported program that brings compiled code, pickled objects, or expressions that are no arithmetic.

    The guards of a program are Python source too: the caller has to drop them (`ExportedProgram._guards_code`) before
    the program is used.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            inner = _inner(member)
            base = inner.rpartition("/")[2]
            if inner.startswith(_COMPILED):
                raise ModelError(
                    f"{path} is refused: {member} is compiled code, which would run; export without compiling"
                )
            if base.startswith(_PICKLED_OBJECTS):
                raise ModelError(f"{path} is refused: {member} is a pickled object, which would run code; {OPT_IN}")
            pickled: list[str] = []
            if inner == _OLD_GRAPH or inner.startswith("models/"):
                _check_graph(_json(archive, member, path), f"{path} ({member})")
            elif base.endswith("_config.json"):
                entries = _json(archive, member, path).get("config", {}).values()
                folder = member.rpartition("/")[0]
                pickled = [f"{folder}/{entry.get('path_name')}" for entry in entries if entry.get("use_pickle")]
            elif base.endswith(".pt") or inner.startswith("serialized_"):
                pickled = [member]
            for name in pickled:
                content = archive.read(name)
                if content:  # a program without constants has an empty file for them
                    unpickle(io.BytesIO(content), str(path), allow_pickle=False, where=name)


def _inner(member: str) -> str:
    """A member's name below the one folder of the archive, in small letters: torch finds members in any case."""
    folder, slash, rest = member.partition("/")
    return (rest if slash else folder).lower()


def _json(archive: zipfile.ZipFile, member: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(archive.read(member))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: its member {member} is no JSON ({error}); save it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: its member {member} holds no object; save it again")
    return content


def _check_graph(content: Any, label: str) -> None:
    for key, text in _strings(content):
        if key == "expr_str" and not _is_arithmetic(text):
            raise ModelError(
                f"{label} is refused: loading would run its size {text[:80]!r}, which is no arithmetic; export it again, or "
                f"{OPT_IN}"
            )
        # A container's description is JSON in JSON, and a class of enum in it is imported.
        if key in ("in_spec", "out_spec") and ("__enum__" in text or "\\u" in text):
            raise ModelError(
                f"{label} is refused: loading would import what its {key} names, {text[:80]!r}; use names of keys in ASCII "
                f"and no enum as a key, or {OPT_IN}"
            )


def _is_arithmetic(text: str) -> bool:
    """Whether sympy, which evaluates it as Python, can only compute with it."""
    if not text.isascii() or not text.isprintable() or "#" in text:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    strings = {id(n) for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str | bytes)}
    # Other functions than Symbol evaluate a string that they are given.
    names = {
        id(call.args[0]) for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Symbol" and call.args
    }
    return (
        all(isinstance(node, _SYMPY_NODES) for node in nodes)
        and all(isinstance(call.func, ast.Name) and call.func.id in _SYMPY_FUNCTIONS for call in calls)
        and strings <= names
    )


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in parsed JSON, with the key that it is under."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _strings(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value, key)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no reason given")
