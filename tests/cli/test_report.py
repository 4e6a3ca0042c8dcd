"""`fewbit report` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_bad_input import fewbit, refused
from tests.report.documents import PASS, document


def test_the_page_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "auto.json").write_text(json.dumps(document()))
    (tmp_path / "report.html").write_text("old")
    done = fewbit("report", tmp_path)
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stdout.split()).startswith(PASS["verdict"]["sentence"])
    assert PASS["verdict"]["sentence"] in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["auto.json", "report.html"]


def test_json_is_the_document(tmp_path: Path) -> None:
    (tmp_path / "auto.json").write_text(json.dumps(document(objective="size")).replace("0.9164", "NaN"))
    done = fewbit("report", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["objective"] == "size" and told["verdict"]["value"] is None and len(done.stdout.splitlines()) == 1
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, ("has no auto.json", "fewbit auto made")),
        ("{", ("auto.json is not JSON", "run fewbit auto again")),
        ("[]", ("auto.json holds a list",)),
        ("[" * 100_000, ("auto.json is not JSON",)),
        ('{"schema_version": 7}', ("auto.json has schema_version 7, this fewbit reads 1",)),
        ('{"schema_version": 1, "seconds": "long"}', ("seconds:", "given 'long'")),
        (b"\xff\xfe", ("auto.json is not JSON",)),
    ],
    ids=["absent", "malformed", "list", "deep", "version", "type", "bytes"],
)
def test_what_cannot_be_read(tmp_path: Path, text: str | bytes | None, says: tuple[str, ...]) -> None:
    if text is not None:
        (tmp_path / "auto.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(fewbit("report", tmp_path), *says)
    assert not (tmp_path / "report.html").exists()


def test_no_such_folder(tmp_path: Path) -> None:
    refused(fewbit("report", tmp_path / "absent"), "absent is not a folder", "fewbit auto")
