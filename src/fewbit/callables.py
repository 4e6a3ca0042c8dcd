"""Callables that a user names as FILE.py:NAME or FILE.py:NAME("literal", key=1)."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from fewbit.errors import InputError

_FORM = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<call>\(.*\))?\s*", re.DOTALL)


def is_callable_text(text: str) -> bool:
    """Whether the text has the form FILE.py:NAME or FILE.py:NAME(...)."""
    return _FORM.fullmatch(text) is not None


def load_callable(text: str) -> Callable[..., Any]:
    """The callable that the text names; with arguments, one that calls it with them each time.

    Arguments are literals (strings, numbers, tuples, lists, dicts, True, False, None): nothing else is evaluated.

    Raises:
        InputError: no such file or name, arguments that are no literals, or an exception in the user's code.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise InputError(f'{text!r} must have the form FILE.py:NAME or FILE.py:NAME("literal", ...)')
    module = _import(Path(match["file"]))
    name = match["name"]
    if not hasattr(module, name):
        close = get_close_matches(name, [n for n in vars(module) if not n.startswith("_")], 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"{match['file']} has no {name!r}{hint}")
    found = getattr(module, name)
    if not callable(found):
        raise InputError(f"{match['file']}:{name} is {type(found).__name__}, not something that can be called")
    if match["call"] is None:
        return found  # type: ignore[no-any-return]
    args, kwargs = _arguments(name + match["call"], text)
    return partial(found, *args, **kwargs)


def has_arguments(text: str) -> bool:
    """Whether the text calls the object that it names."""
    match = _FORM.fullmatch(text)
    return match is not None and match["call"] is not None


def call_user_code(call: Callable[[], Any], what: str) -> Any:
    """Run the user's code; whatever it raises becomes one line with the place in the user's file."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, InputError):
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = " ".join(str(error).split())
        raise InputError(f"{what} raised {type(error).__name__}: {message} ({last.filename}:{last.lineno})") from error


def _import(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    spec = importlib.util.spec_from_file_location(f"_fewbit_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles in the file look their module up
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    try:
        call_user_code(lambda: spec.loader.exec_module(module), str(path))  # type: ignore[union-attr]
    finally:
        sys.path.remove(folder)
    return module


def _arguments(expression: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        call = ast.parse(expression, mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError("not a call")
        args = [ast.literal_eval(a) for a in call.args]
        kwargs = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
    except (SyntaxError, ValueError) as error:
        raise InputError(f'the arguments in {text!r} must be literals, such as "name", 3 or True') from error
    return args, kwargs
