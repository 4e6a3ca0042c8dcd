"""A command that is used wrongly: one line on stderr with the remedy, exit code 2, nothing on stdout."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from fewbit.cli import quantize
from fewbit.flow.calibrate import EFFORTS
from tests.cli.test_bad_input import fewbit, refused

QUANTIZE = ("quantize", "absent.onnx", "-o", "out.onnx")


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("quantiz",), ("no such command 'quantiz'", "'quantize'?", "see fewbit --help")),
        (("targets",), ("fewbit targets --help",)),
        (("targets", "lsit"), ("'lsit'", "'list'?", "see fewbit targets --help")),
        (("targets", "show"), ("missing argument 'TARGET'", "see fewbit targets show --help")),
        (("quantize",), ("missing argument 'MODEL'", "see fewbit quantize --help")),
        (("quantize", "absent.onnx"), ("missing option '--out'", "see fewbit quantize --help")),
        ((*QUANTIZE, "--recipie", "int8"), ("--recipie", "--recipe", "see fewbit quantize --help")),
        ((*QUANTIZE, "surplus"), ("surplus", "see fewbit quantize --help")),
        ((*QUANTIZE, "--effort", "much"), ("--effort", "'much'", "'fast', 'standard', 'max'")),
        ((*QUANTIZE, "--format", "tflite"), ("--format", "'tflite'", "'onnx'")),
        ((*QUANTIZE, "--limit", "some"), ("--limit", "'some'", "integer")),
        ((*QUANTIZE, "--limit", "0"), ("--limit", "1", "'0'")),
        ((*QUANTIZE, "--keep-names=3"), ("--keep-names", "value", "see fewbit quantize --help")),
        (("bench", "absent.onnx", "--batch", "1", "--batch", "x"), ("--batch", "'x'", "see fewbit bench --help")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], says: tuple[str, ...], as_json: tuple[str, ...]) -> None:
    done = fewbit(*arguments, *as_json)
    refused(done, *says)
    assert done.stderr.startswith("fewbit: ")


def test_an_option_without_its_value() -> None:
    refused(fewbit("bench", "absent.onnx", "--batch"), "--batch", "argument", "see fewbit bench --help")


def test_help_lists_the_choices() -> None:
    text = fewbit("quantize", "--help").stdout
    assert "fast|standard|max" in text and "onnx" in text


def test_the_choices_are_those_of_the_job() -> None:
    hints = get_type_hints(quantize.command)
    assert get_args(hints["effort"]) == tuple(EFFORTS)
