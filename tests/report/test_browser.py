"""The page in a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fewbit.report.html import write_html
from tests.report.documents import ALL, document

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with api.sync_playwright() as started:
        # The sandbox of Chromium refuses to run for root, who runs tests in containers.
        alone = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        opened = started.chromium.launch(executable_path=CHROMIUM, args=alone)
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ALL)
def test_it_fits_and_is_quiet(browser: Any, tmp_path: Path, name: str, scheme: str, width: int) -> None:
    write_html(ALL[name](), tmp_path / "report.html")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "report.html").as_uri()]
    shown = page.evaluate("[...document.querySelectorAll('svg.plot')].filter(s => s.getClientRects().length).length")
    assert shown * 2 == page.evaluate("document.querySelectorAll('svg.plot').length")
    assert told == []
    page.close()


def test_columns_sort(browser: Any, tmp_path: Path) -> None:
    write_html(document(), tmp_path / "report.html")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    table = page.locator("table").last
    head = table.locator("thead button", has_text="speed")

    def names() -> list[str]:
        return table.locator("tbody th").all_text_contents()

    head.click()
    assert names()[0] == "fp16" and names()[-2:] == ["a16w8", "w4a8 trained"]
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    head.click()
    assert names()[0] == "mixed 4/8, 62 % of the weights in 4 bits" and names()[-2:] == ["a16w8", "w4a8 trained"]
    page.close()
