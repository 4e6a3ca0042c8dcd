"""The document of a search: all that it found, as plain data, for programs, the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewbit.flow.auto.entries import FLOAT, NO_LOSS, Entry, frontier, gain
from fewbit.flow.auto.found import Found, Options
from fewbit.flow.auto.setup import PARTS, Setup
from fewbit.measure.compare import finite_or_none
from fewbit.report.document import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Header:
    """What is known before a search begins."""

    version: str
    created: str
    command: str
    name: str
    budget: float | None


def document(header: Header, setup: Setup, options: Options, found: Found, seconds: float) -> dict[str, Any]:
    """All that is known so far."""
    metric = setup.resolved_metric()
    chosen, twin = found.chosen, found.twin
    timed = next((e.measured for e in found.entries if e.measured is not None), None)
    base = found.baseline.get("search")  # what candidates are compared with; the verdict has its own
    return {
        "schema_version": SCHEMA_VERSION,
        "fewbit": header.version,
        "created": header.created,
        "command": header.command,
        "model": {
            "name": header.name,
            "bytes": _float_bytes(found),
            "fingerprint": None if twin is None else twin.finished.result["fingerprint"],
        },
        "target": setup.target,
        "runtime": None if timed is None else timed.get("runtime"),
        "cpu": None if timed is None else timed.get("cpu"),
        "objective": str(options.objective),
        "compared_by": str(options.compared_by),
        "limits": {
            "max_drop": None if found.drop is None else found.drop.value,
            "max_drop_text": None if found.drop is None else found.drop.text,
            "max_size": options.limits.max_size,
            "max_latency_ratio": options.limits.max_latency_ratio,
            "max_memory": options.limits.max_memory,
        },
        "metric": {
            "name": metric.name,
            "higher_is_better": metric.higher_is_better,
            "points": found.share,
            "value": None if base is None else base["value"],
        },
        "splits": _splits(setup, found),
        "candidates": [_candidate(e, found, options) for e in found.entries],
        "chosen": None if chosen is None else chosen.id,
        "verdict": _verdict(found, options),
        "layers": [] if chosen is None or chosen.built is None else _with_work(chosen.built["layers"], found),
        "advice": list(found.advice),
        "notes": [*found.notes, *([] if chosen is None or chosen.built is None else chosen.built["notes"])],
        "evaluations": _evaluations(found),
        "seconds": seconds,
        "budget": header.budget,
        "stage": found.stage,
        "doing": found.doing,
    }


def _float_bytes(found: Found) -> int | None:
    """Of the float model as the user has it."""
    return None if found.twin is None else int(found.twin.finished.result["given_bytes"])


def _splits(setup: Setup, found: Found) -> dict[str, Any] | None:
    if found.splits is None:
        return None
    counts = {str(part): len(getattr(found.splits, part)) for part in PARTS if part != "training"}
    return {**counts, "seed": setup.seed, "stratified": found.splits.label_count is not None}


def _evaluations(found: Found) -> float | None:
    """Evaluations of candidates, in runs over all samples for evaluation."""
    if found.splits is None:
        return None
    return found.evaluated / max(1, len(found.splits.search) + len(found.splits.certification))


def _candidate(entry: Entry, found: Found, options: Options) -> dict[str, Any]:
    drop = None if entry.scored is None else entry.drop
    float_bytes = _float_bytes(found)
    built = entry.built
    return {
        "id": entry.id,
        "label": entry.id,
        "stage": entry.candidate.stage,
        "why": entry.candidate.why,
        "status": entry.status,
        "doing": entry.doing,
        "reason": entry.reason,
        "bytes": None if built is None else built["bytes"],
        "smaller": None if built is None or not float_bytes else 1 - built["bytes"] / float_bytes,
        "latency": None if entry.measured is None else entry.measured["latency"],
        "memory": entry.memory,
        "energy": entry.energy,
        "gain": gain(entry, options.compared_by) if entry.status in ("measured", "stopped") else None,
        "sqnr_db": None if built is None or built["sqnr_db"] is None else finite_or_none(built["sqnr_db"]),
        "value": None if drop is None else drop["value"],
        "drop": None if drop is None else drop["drop"],
        "drop_low": None if drop is None else drop["low"],
        "drop_high": None if drop is None else drop["high"],
        "samples": None if drop is None else drop["samples"],
        "certified": None if entry.certified is None else entry.certified["kind"],
        "seconds": entry.seconds,
        "frontier": entry.id in frontier(found.entries, options.compared_by),
        "chosen": found.chosen is entry,
    }


def _verdict(found: Found, options: Options) -> dict[str, Any] | None:
    if found.chosen is not None and found.chosen.id == FLOAT:
        value = found.baseline["certification"]["value"]
        refused = [e.id for e in found.entries if e.refused]
        shown = "proved" if options.strict else "seen"
        why = (
            f"{', '.join(refused)} would be better, but could not be {shown} to keep to the drop"
            if refused
            else "no candidate that keeps to the limits is better than the model as it is"
        )
        sentence = f"Leave it in float: {why}."
        return _whole({"kind": "pass", "sentence": sentence, "baseline": value, "value": value})
    if found.verdict is not None:
        sentence = f"{_headline(found, options)}{found.verdict.get('sentence') or ''}"
        return _whole({**found.verdict, "sentence": sentence, **_behaviour(found.verdict)})
    if found.stage != "done":
        return None
    if found.chosen is not None:  # the time was up, or there would be a verdict
        return _whole({"kind": "none", "sentence": f"{_headline(found, options)}not certified, as the time was up."})
    why = "the time was up" if found.out_of_time else "no candidate keeps to the limits"
    return _whole({"kind": "none", "sentence": f"Not certified: {why}."})


def _headline(found: Found, options: Options) -> str:
    """What was gained, before what it costs."""
    chosen, whole = found.chosen, _float_bytes(found)
    if chosen is None or chosen.built is None or whole is None:
        return ""
    smaller = 1 - chosen.bytes / whole
    gained = [f"{smaller:.0%} smaller than float" if smaller >= 0 else f"{-smaller:.0%} larger than float"]
    if chosen.speed_up is not None:
        same = NO_LOSS < chosen.speed_up < 2.0 - NO_LOSS
        gained.append("as fast" if same else f"{chosen.speed_up:.2f} times as fast")
    takes = ""
    if "energy" in options.objective.axes and chosen.energy is not None:
        how = "by an estimate" if chosen.energy["estimated"] else "by the meter"
        takes = f", and takes {chosen.energy['ratio']:.0%} of its energy {how}"
    return f"{chosen.id} is {' and '.join(gained)}{takes}: "


def _behaviour(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """How answers changed, in the form of the document."""
    found = verdict.get("behaviour")
    if found is None:
        return {}
    worst, rows = found["worst_class"], found["rows"]
    calibrated = found["calibration"] is not None
    return {
        "flips": {
            "changed": found["changed"],
            "worse": round(found["right_to_wrong"] * rows),
            "better": round(found["wrong_to_right"] * rows),
        },
        "worst_class": worst
        and {
            "class": worst["label"],
            "float": worst["baseline"],
            "quantized": worst["value"],
            "samples": worst["rows"],
        },
        "calibration_error": {"float": found["calibration_baseline"], "quantized": found["calibration"]}
        if calibrated
        else None,
    }


_VERDICT = [
    "kind",
    "sentence",
    "baseline",
    "value",
    "drop",
    "low",
    "high",
    "lower",
    "upper",
    "confidence",
    "samples",
    "needed",
    "method",
    "p_value",
    "flips",
    "worst_class",
    "calibration_error",
]


def _whole(known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: known.get(name) for name in _VERDICT}


def _with_work(layers: Any, found: Found) -> list[dict[str, Any]]:
    work = {} if found.twin is None else found.twin.finished.result["work"]
    return [
        {**layer, "work": work.get(layer["name"]), "sqnr_db": found.layer_sqnr.get(layer["name"])} for layer in layers
    ]
