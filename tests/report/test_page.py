"""The page of `fewbit auto`, read as HTML."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest

from fewbit.errors import OutputError
from fewbit.report.document import parse
from fewbit.report.html import page as page_module
from fewbit.report.html import write_html
from fewbit.report.html.frontier import frontier_plot, gain
from fewbit.report.html.page import page
from tests.conftest import ROOT
from tests.report.documents import ALL, CANDIDATES, HOSTILE, LAYERS, PASS, candidate, document, latency, nothing
from tests.report.markup import Page

EVERY = pytest.mark.parametrize("name", ALL)


def read(data: dict[str, Any]) -> Page:
    return Page(page(parse(data)))


@cache
def known(name: str) -> Page:
    """A page that several tests read, drawn once."""
    return read(ALL[name]())


@EVERY
def test_it_needs_nothing_else(name: str) -> None:
    found = known(name)
    for key in ("src", "href", "xlink:href", "action", "srcset", "poster"):
        assert all(re.fullmatch(r"data:,|#[\w-]+", value) for value in found.attribute(key)), key
    for text in [data for tag, data in found.texts if tag in ("style", "script")] + found.attribute("style"):
        assert not re.search(r"https?:|//\w|@import|url\((?!#)", text)
    assert {tag for tag, _ in found.tags} & {"iframe", "object", "embed", "img", "form"} == set()
    assert [attrs["href"] for tag, attrs in found.tags if tag == "link"] == ["data:,"]


@EVERY
def test_one_script_that_the_policy_names(name: str) -> None:
    found = known(name)
    scripts = [data for tag, data in found.texts if tag == "script"]
    assert len(scripts) == found.count("script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(attrs["content"] for tag, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and f"script-src 'sha256-{digest}';" in policy and "default-src 'none'" in policy
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)


@EVERY
def test_every_candidate_has_its_row(name: str) -> None:
    table = known(name).tables[-1]
    assert table[0][:4] == ["candidate", "standing", "size", "speed"] and table[0][-1] == "why"
    assert [row[0] for row in table[1:]] == [one.title for one in parse(ALL[name]()).candidates]
    assert {len(row) for row in table} == {13}


def test_what_a_row_says() -> None:
    table = {row[0]: row[1:] for row in known("pass").tables[-1]}
    measured = [
        "290 kB74.0% smaller",
        "×2.202.10 to 2.30 · 0.8 ms",
        "91.64%",
        "+0.04−0.10 to +0.20",
        "50 MB",
        "×0.40estimate",
    ]
    assert table["int8"] == ["★ chosen", *measured, "31.2 dB", "500", "12.1 s", "one recipe", "–"]
    assert table["w4a8"][0] == "✕ over a limit (drop)"
    stopped = table["mixed 4/8, 85 % of the weights in 4 bits"]
    assert stopped[0] == "□ stopped early, over a limit (drop)"
    assert stopped[-1] == "after 200 samples it could no longer keep to the limit"
    assert table["a16w8"][:6] == ["△ failed", "–", "–", "–", "–", "–"]
    assert table["a16w8"][-1] == "the runtime has no kernel for 16-bit activations of MaxPool (pool1)"


def test_every_layer_has_its_row() -> None:
    table = known("pass").tables[0]
    assert [row[1] for row in table[1:]] == [layer["name"] for layer in LAYERS]
    assert table[1] == ["1", "conv1", "Conv", "integer kernels", "int8 per channel", "uint8", "8", "38.2 dB", "5.0%",
                        "in integers on ort-cpu"]  # fmt: skip


@EVERY
def test_the_verdict_comes_first(name: str) -> None:
    text = known(name).text
    word, sentence = {
        "pass": ("Passed", PASS["verdict"]["sentence"]),
        "fail": ("Failed", "int8 loses more than 0.5 points of top1: 0.95 points, and 0.62 at the least (95 % sure)."),
        "undecided": ("Undecided", "300 samples cannot tell whether int8 keeps to 0.5 points; about 2400 would."),
        "none chosen": ("Nothing found", "No candidate keeps to the limits."),
        "300 layers": ("Passed", PASS["verdict"]["sentence"]),
        "hostile": ("Passed", f"{HOSTILE} passes."),
        "nothing": ("Nothing found", "No candidate was measured."),
    }[name]
    assert f"{word} {sentence}" in text
    assert text.index(sentence) < text.index("What was tried")


def test_a_choice_without_a_verdict() -> None:
    text = read(document(verdict=None)).text
    assert "Not certified int8 was chosen; its accuracy was not certified." in text
    assert "top1 91.60% → 91.64% +0.04 points (better) interval −0.10 to +0.20 500 samples of the search" in text


def test_figures_of_the_tiles() -> None:
    text = known("pass").text
    assert (
        "top1 91.60% → 91.64% +0.04 points (better) 95% interval −0.08 to +0.15 2000 samples kept for certification "
        "may lose 0.5 points size 1.1 MB → 290 kB 74.0% smaller speed ×1 → ×2.20 faster than float interval ×2.10 to ×2.30 "
        "0.8 ms a run memory 50 MB to load and run energy ×1 → ×0.40 of float's estimate"
    ) in text


def test_a_metric_where_less_is_better_rises_when_it_loses() -> None:
    metric = {"name": "wer", "higher_is_better": False, "points": True, "value": 0.08}
    verdict = {**PASS["verdict"], "baseline": 0.08, "value": 0.083, "drop": 0.003, "low": -0.001, "high": 0.004}
    text = read(document(metric=metric, verdict=verdict)).text
    assert "wer 8.00% → 8.30% +0.30 points (worse) 95% interval −0.10 to +0.40" in text


def test_how_it_was_measured() -> None:
    text = known("pass").text
    for part in (
        PASS["command"],
        "samples 128 for calibration; 500 for the search; 2000 for certification",
        "seed of the split 0, classes in equal shares",
        "runtime onnxruntime 1.32.0",
        "processor Intel Xeon, 2 cores, AVX2",
        "method Tango score interval, 95% confidence",
        "energy estimate: 45 nm table of operations",
        "evaluations as many as 3.2 full ones",
        "took 84 s of 600 s allowed",
        "answers that changed 1.2%; 3 for the worse; 4 for the better",
        "class that lost most 3: 90.00% → 89.00%, 200 samples",
        "calibration error 0.030 → 0.031",
        PASS["advice"][0],
        PASS["notes"][0],
    ):
        assert part in text, part


def test_hostile_names_are_text() -> None:
    found = known("hostile")
    assert found.source.count("<script") == 1 and "<img" not in found.source and "<i>top1" not in found.source
    assert HOSTILE in found.text and '"><img src=x onerror=alert(2)> $\\frac{1}{$' in found.text
    assert "]]>-->&amp;: {{ 7 * 7 }} {% raw %}" in found.text
    assert "[/red] \ufffd[31m \ufffd \ufffd \ufffd txt" in found.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff\ufffe]", found.source)
    titles = ["".join(data for tag, data in found.texts if tag == "title")]
    assert titles == [f"{HOSTILE} for ort-cpu: passed"]


@EVERY
def test_plots_are_drawings_of_the_page(name: str) -> None:
    found = known(name)
    ids: list[str] = []
    for drawing in found.drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img" and root.get("aria-label")
        own = [element.get("id", "") for element in root.iter() if element.get("id")]
        ids += own
        used = {element.get("{http://www.w3.org/1999/xlink}href", "#")[1:] for element in root.iter()} - {""}
        used |= set(re.findall(r"url\(#([^)]+)\)", drawing))
        assert used == set(own)
        colours = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", drawing)) - {"none"}
        assert colours <= {
            f"var(--{name})" for name in ("ink", "muted", "line", "paper", "accent", "bad", "warn", "few")
        }
        assert "font-family" not in drawing and "<style" not in drawing
    assert len(ids) == len(set(ids))
    assert sum('class="plot wide"' in d for d in found.drawings) * 2 == len(found.drawings)


def test_names_are_in_the_plots_as_text() -> None:
    frontier, _, against, _, layers, _ = known("pass").drawings
    words = {text.text for text in ElementTree.fromstring(frontier).iter("{http://www.w3.org/2000/svg}text")}
    assert {"int8", "float", "w4a8", "w2a8 ↓ −81.20", "limit: may lose 0.5 points"} <= words
    words = {text.text for text in ElementTree.fromstring(against).iter("{http://www.w3.org/2000/svg}text")}
    assert {"float", "limit", "certification, 2000 samples:"} <= words
    words = {text.text for text in ElementTree.fromstring(layers).iter("{http://www.w3.org/2000/svg}text")}
    assert "layer3.0.conv2" in words


def test_what_the_plot_leaves_out_is_told() -> None:
    text = known("pass").text
    assert "Below the plot, not to scale: w2a8." in text
    assert (
        "Not in the plot: a16w8: the runtime has no kernel for 16-bit activations of MaxPool (pool1) "
        "w4a8 trained: no time left: 84 s of 600 s"
    ) in text


def test_an_objective_that_nobody_measured() -> None:
    unmeasured = [{**one, "energy": None} for one in CANDIDATES]
    text = read(document(objective="energy", candidates=unmeasured)).text
    assert "No candidate has a figure of energy: the plot shows size." in text


def test_a_weighted_objective_is_plotted_by_its_gain() -> None:
    weighted = [{**one, "gain": 1.5} for one in CANDIDATES]
    text = read(document(objective="latency=0.75,size=0.25", candidates=weighted)).text
    assert "times better than float (latency=0.75,size=0.25), better →" in text
    assert "the plot shows size" not in text


def test_heads_and_names_for_those_who_listen() -> None:
    found = known("pass")
    heads = [attrs for tag, attrs in found.tags if tag == "th"]
    assert {attrs.get("scope") for attrs in heads} == {"col", "row"}
    assert len([attrs for attrs in heads if attrs["scope"] == "row"]) == len(CANDIDATES) + len(LAYERS)
    boxes = [attrs for tag, attrs in found.tags if attrs.get("role") == "region"]
    assert [attrs["aria-label"] for attrs in boxes] == ["Table of layers", "Table of candidates"]
    assert all(attrs["tabindex"] == "0" for attrs in boxes)
    named = {attrs["aria-labelledby"] for tag, attrs in found.tags if tag == "section"}
    assert named == {attrs.get("id") for tag, attrs in found.tags if tag == "h2"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_the_page(scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text."""
    style = (Path(page_module.__file__).parent / "style.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[0]))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[1]))
    inks = ("ink", "muted", "accent", "good", "bad", "warn", "few")
    pairs = [(ink, ground) for ink in inks for ground in ("paper", "surface")]
    pairs += [(name, f"{name}-wash") for name in ("good", "bad", "warn")] + [("muted", "none-wash")]
    pairs += [("ink", f"{name}-wash") for name in ("good", "bad", "warn", "none")]
    for ink, ground in pairs:
        dark, bright = sorted((_luminance(colours[ink]), _luminance(colours[ground])))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_it_stays_small_with_many_layers(tmp_path: Path) -> None:
    write_html(ALL["300 layers"](), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 400_000


def test_the_same_document_gives_the_same_bytes(tmp_path: Path) -> None:
    here = tmp_path / "here.html"
    with matplotlib.rc_context({"font.size": 30.0, "xtick.major.pad": 30.0, "axes.facecolor": "red"}):
        write_html(document(), here)
        assert matplotlib.rcParams["font.size"] == 30.0
    code = (
        "import sys; from tests.report.documents import document; from fewbit.report.html import write_html; "
        "write_html(document(), sys.argv[1])"
    )
    there = tmp_path / "there.html"
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, str(there)], check=True, env=environment)
    assert here.read_bytes() == there.read_bytes()


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"report\.html cannot be written: the folder .*absent does not exist"):
        write_html(document(), tmp_path / "absent" / "report.html")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"report\.html is a folder"):
        write_html(document(), tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("key", [key for key in PASS if key != "schema_version"])
def test_any_key_may_be_missing(key: str) -> None:
    data = document()
    del data[key]
    found = parse(data)
    assert found == parse({**data, key: None})
    assert Page(page(found)).count("h2") == 6


def test_a_single_candidate_without_limits() -> None:
    alone = [candidate("int8", frontier=True, drop=0.0, drop_low=None, drop_high=None, latency={"ratio": 1.0})]
    text = read({**nothing(), "candidates": alone, "chosen": "int8", "verdict": None}).text
    assert "speed ×1 → ×1.00 as fast as float" in text


def crowd() -> dict[str, Any]:
    """Forty candidates close to each other."""
    tried = [
        candidate(f"form {i}", latency=latency(1.9 + i % 7 / 20), drop=(i * 13 % 40 - 8) / 10_000, frontier=i == 3)
        for i in range(40)
    ]
    return document(candidates=tried, chosen="form 3")


def test_a_crowd_is_named_as_far_as_there_is_room() -> None:
    found = read(crowd())
    wide = ElementTree.fromstring(found.drawings[0])
    named = [text.text or "" for text in wide.iter("{http://www.w3.org/2000/svg}text") if "form" in (text.text or "")]
    assert "form 3" in named and 8 <= len(named) <= 23
    assert f"Not named in the plot: {40 - len(named)} candidates, which the table holds." in found.text


@pytest.mark.parametrize(
    ("limits", "below"),
    [
        ({"max_drop": 0.005}, {"w2a8"}),
        ({"max_drop": 0.001}, {"w4a8", "mixed 4/8, 85 % of the weights in 4 bits", "w2a8"}),
        ({}, {"w2a8"}),  # the largest loss on the frontier is 0.003
    ],
)
def test_only_what_is_far_below_the_limit_is_not_to_scale(limits: dict[str, float], below: set[str]) -> None:
    plot = frontier_plot(parse(document(limits=limits)))
    assert plot is not None and set(plot.pinned) == below


@pytest.mark.filterwarnings("error")
def test_what_gains_far_more_than_may_be_lost_lies_in_the_plot() -> None:
    better = document(limits={"max_drop": 0.0001})
    for one in better["candidates"]:
        if one["drop"] is not None:
            one["drop"] = -0.2
    plot = frontier_plot(parse(better))
    assert plot is not None and not plot.pinned


def test_where_nothing_is_timed_the_page_says_so() -> None:
    untimed = document(compared_by="energy")
    for one in untimed["candidates"]:
        one["latency"] = None
    found = read(untimed)
    assert "latency, compared by energy: nothing was timed" in found.text
    assert "of activations" in found.text and "to load and run" not in found.text
    plot = frontier_plot(parse(untimed))
    assert plot is not None and plot.axis == "times less energy than float"


def test_gains_are_times_better_than_float() -> None:
    found = parse(document())
    one = found.candidates[0]
    assert gain(one, found, "latency") == (2.2, 2.1, 2.3)
    assert gain(one, found, "size") == (1_100_000 / 290_000, None, None)
    assert gain(one, found, "energy") == (2.5, None, None)
    assert gain(found.candidates[-1], found, "size") is None
