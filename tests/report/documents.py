"""Documents of `fewbit auto` to make reports from."""

from __future__ import annotations

import copy
from typing import Any

HOSTILE = "<script>alert(1)</script>"


def candidate(name: str, **changed: Any) -> dict[str, Any]:
    """A measured candidate: a quarter of the size, twice as fast, nothing lost."""
    return {
        "id": name,
        "label": name,
        "stage": "ladder",
        "status": "measured",
        "reason": "",
        "bytes": 290_000,
        "smaller": 0.74,
        "latency": {"ratio": 2.2, "low": 2.1, "high": 2.3, "milliseconds": 0.8},
        "memory": 50_000_000,
        "energy": {"ratio": 0.4, "estimated": True, "source": "45 nm table of operations"},
        "sqnr_db": 31.2,
        "value": 0.9164,
        "drop": -0.0004,
        "drop_low": -0.002,
        "drop_high": 0.001,
        "samples": 500,
        "seconds": 12.1,
        "frontier": False,
        "chosen": False,
        **changed,
    }


def unmeasured(name: str, status: str, reason: str, **changed: Any) -> dict[str, Any]:
    """A candidate without figures."""
    nothing = dict.fromkeys(
        ("bytes", "smaller", "latency", "memory", "energy", "sqnr_db", "value", "drop", "drop_low", "drop_high")
    )
    return candidate(name, status=status, reason=reason, samples=0, seconds=1.0, **{**nothing, **changed})


def latency(ratio: float) -> dict[str, float]:
    return {"ratio": ratio, "low": ratio * 0.96, "high": ratio * 1.03, "milliseconds": 1.76 / ratio}


def layer(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "op": "Conv",
        "form": "integer",
        "weight": "int8 per channel",
        "bits": 8,
        "activation": "uint8",
        "sqnr_db": 35.1,
        "work": 0.12,
        "reason": "in integers on ort-cpu",
        **changed,
    }


CANDIDATES = [
    candidate("int8", frontier=True, chosen=True),
    candidate(
        "int8-dynamic",
        bytes=300_000,
        smaller=0.727,
        latency=latency(1.4),
        value=0.9158,
        drop=0.0002,
        drop_low=-0.001,
        drop_high=0.0014,
    ),
    candidate(
        "int8-weights",
        bytes=295_000,
        smaller=0.73,
        latency=latency(0.98),
        value=0.9162,
        drop=-0.0002,
        drop_low=-0.0012,
        drop_high=0.0008,
    ),
    candidate(
        "fp16",
        bytes=560_000,
        smaller=0.49,
        latency=latency(0.97),
        value=0.916,
        drop=0.0,
        drop_low=-0.0003,
        drop_high=0.0003,
    ),
    candidate(
        "w4a8",
        bytes=160_000,
        smaller=0.855,
        latency=latency(2.21),
        value=0.907,
        drop=0.009,
        drop_low=0.0035,
        drop_high=0.0145,
    ),
    candidate(
        "int8, 3 layers in float",
        stage="repair",
        bytes=340_000,
        smaller=0.69,
        latency=latency(1.95),
        value=0.9166,
        drop=-0.0006,
        drop_low=-0.002,
        drop_high=0.0008,
        frontier=True,
        reason="layer1.0.conv2, layer3.2.conv1 and fc lost most",
    ),
    candidate(
        "mixed 4/8, 62 % of the weights in 4 bits",
        stage="allocation",
        bytes=205_000,
        smaller=0.814,
        latency=latency(2.28),
        value=0.913,
        drop=0.003,
        drop_low=-0.0005,
        drop_high=0.0065,
        frontier=True,
    ),
    candidate(
        "mixed 4/8, 85 % of the weights in 4 bits",
        stage="allocation",
        status="stopped",
        bytes=175_000,
        smaller=0.841,
        latency=latency(2.25),
        value=0.908,
        drop=0.008,
        drop_low=0.001,
        drop_high=0.015,
        samples=200,
        reason="after 200 samples it could no longer keep to the limit",
    ),
    candidate(
        "w2a8",
        bytes=90_000,
        smaller=0.918,
        latency=latency(2.2),
        value=0.104,
        drop=0.812,
        drop_low=0.77,
        drop_high=0.85,
        samples=100,
    ),
    unmeasured("a16w8", "failed", "the runtime has no kernel for 16-bit activations of MaxPool (pool1)"),
    unmeasured("w4a8 trained", "skipped", "no time left: 84 s of 600 s", stage="tune"),
]

LAYERS = [
    layer("conv1", sqnr_db=38.2, work=0.05),
    *(
        layer(f"layer{s}.{b}.conv{c}", sqnr_db=36.0 - 3 * s + b - c, work=0.048)
        for s in (1, 2, 3)
        for b in (0, 1, 2)
        for c in (1, 2)
    ),
    layer("pool", op="GlobalAveragePool", form="passthrough", weight="", bits=None, sqnr_db=None, work=0.0),
    layer(
        "fc",
        op="Gemm",
        form="float",
        weight="float32",
        bits=32,
        activation="float32",
        sqnr_db=None,
        work=0.02,
        reason="left in float: 0.4 points better",
    ),
]

PASS: dict[str, Any] = {
    "schema_version": 1,
    "fewbit": "0.1.0",
    "created": "2026-11-29T05:00:00Z",
    "command": "fewbit auto resnet20.onnx -o out --data cal.npz --eval val.npz --metric top1 --max-drop '0.5 points'",
    "model": {"name": "resnet20.onnx", "bytes": 1_100_000, "fingerprint": "3f9a2c11d0"},
    "target": "ort-cpu",
    "runtime": "onnxruntime 1.32.0",
    "cpu": "Intel Xeon, 2 cores, AVX2",
    "objective": "latency",
    "limits": {
        "max_drop": 0.005,
        "max_drop_text": "0.5 points",
        "max_size": None,
        "max_latency_ratio": None,
        "max_memory": None,
    },
    "metric": {"name": "top1", "higher_is_better": True, "points": True, "value": 0.916},
    "splits": {"calibration": 128, "search": 500, "certification": 2000, "seed": 0, "stratified": True},
    "candidates": CANDIDATES,
    "chosen": "int8",
    "verdict": {
        "kind": "pass",
        "sentence": "int8 loses at most 0.07 points of top1 (95 % sure, 2000 samples): within the limit of 0.5 points.",
        "baseline": 0.916,
        "value": 0.9164,
        "drop": -0.0004,
        "low": -0.0015,
        "high": 0.0008,
        "upper": 0.0007,
        "confidence": 0.95,
        "samples": 2000,
        "needed": None,
        "method": "Tango score interval",
        "flips": {"changed": 0.012, "worse": 3, "better": 4},
        "worst_class": {"class": 3, "float": 0.90, "quantized": 0.89, "samples": 200},
        "calibration_error": {"float": 0.03, "quantized": 0.031},
    },
    "layers": LAYERS,
    "advice": ["mixed 4/8 with 62 % in 4 bits is 29 % smaller and 4 % faster, and may lose 0.65 points."],
    "notes": ["latency was measured beside other work on this machine"],
    "evaluations": 3.2,
    "seconds": 84.0,
    "budget": 600,
}


def document(**changed: Any) -> dict[str, Any]:
    """`PASS` with some keys changed."""
    return {**copy.deepcopy(PASS), **changed}


def fail() -> dict[str, Any]:
    verdict = {
        **PASS["verdict"],
        "kind": "fail",
        "sentence": "int8 loses more than 0.5 points of top1: 0.95 points, and 0.62 at the least (95 % sure).",
        "value": 0.9065,
        "drop": 0.0095,
        "low": 0.0062,
        "high": 0.0131,
        "upper": 0.0125,
    }
    return document(verdict=verdict)


def undecided() -> dict[str, Any]:
    verdict = {
        **PASS["verdict"],
        "kind": "undecided",
        "sentence": "300 samples cannot tell whether int8 keeps to 0.5 points; about 2400 would.",
        "value": 0.9133,
        "drop": 0.0027,
        "low": -0.004,
        "high": 0.0094,
        "upper": 0.0083,
        "samples": 300,
        "needed": 2400,
        "flips": None,
        "worst_class": None,
        "calibration_error": None,
    }
    return document(verdict=verdict)


def none_chosen() -> dict[str, Any]:
    """Everything is over the limit."""
    lossy = [{**one, "chosen": False, "frontier": False} for one in copy.deepcopy(CANDIDATES) if one["id"] != "int8"]
    for one in lossy:
        if one["drop"] is not None:
            one.update(
                drop=one["drop"] + 0.0085, drop_low=one["drop_low"] + 0.0085, drop_high=one["drop_high"] + 0.0085
            )
    return document(candidates=lossy, chosen=None, verdict=None, layers=[])


def long() -> dict[str, Any]:
    """A transformer of 300 layers."""
    layers = []
    for i in range(300):
        block, part = divmod(i, 6)
        four, off = i % 5 == 0, i % 37 == 0
        layers.append(
            layer(
                f"/model/encoder/block.{block}/{('q', 'k', 'v', 'out', 'up', 'down')[part]}_proj/MatMul",
                op="MatMul",
                form="float" if off else "weight_only" if four else "integer",
                weight="float32" if off else "int4 groups of 32" if four else "int8 per channel",
                bits=32 if off else 4 if four else 8,
                activation="float32" if off or four else "uint8",
                sqnr_db=None if off else 40 - (i * 7919 % 23) - (12 if four else 0),
                work=1 / 300,
                reason="left in float: the activations have outliers that 8 bits cannot hold"
                if off
                else "by allocation",
            )
        )
    return document(layers=layers)


def hostile() -> dict[str, Any]:
    """Names that attack pages, terminals, XML and mathematical notation."""
    found = document(
        candidates=[
            *copy.deepcopy(CANDIDATES),
            candidate(HOSTILE, latency=latency(1.7), drop=0.001, drop_low=0.0, drop_high=0.002),
            candidate('"><img src=x onerror=alert(2)> $\\frac{1}{$', latency=latency(1.2), drop=0.002),
            candidate("[/red] \x1b[31m \x00 \ud800 \u202e txt", latency=latency(0.7), drop=-0.001, reason=HOSTILE),
            unmeasured("]]>-->&amp;", "failed", "{{ 7 * 7 }} {% raw %}"),
        ],
        layers=[
            layer(HOSTILE, op=HOSTILE, reason=HOSTILE, sqnr_db=3.0),
            layer("http://example.com/a.js", sqnr_db=9.0),
            layer("x" * 300, sqnr_db=12.0),
            layer("[bold]$x_1$ \x07\ufffe", form="<b>", sqnr_db=14.0),
        ],
        notes=[HOSTILE],
        advice=[f"{HOSTILE} [/]"],
        command=f"fewbit auto {HOSTILE}",
    )
    found["model"]["name"] = HOSTILE
    found["verdict"]["sentence"] = f"{HOSTILE} passes."
    found["metric"]["name"] = "$\\sum$ <i>top1</i>"
    return found


def nothing() -> dict[str, Any]:
    """Every figure is null."""
    return {
        **dict.fromkeys(PASS),
        "schema_version": 1,
        "candidates": [dict.fromkeys(CANDIDATES[0], None) | {"id": "int8", "frontier": False, "chosen": False}],
        "layers": [dict.fromkeys(LAYERS[0], None) | {"name": "conv1"}],
        "verdict": dict.fromkeys(PASS["verdict"]) | {"kind": "none"},
        "metric": {"name": None, "higher_is_better": True, "points": False, "value": None},
    }


ALL = {
    "pass": document,
    "fail": fail,
    "undecided": undecided,
    "none chosen": none_chosen,
    "300 layers": long,
    "hostile": hostile,
    "nothing": nothing,
}
