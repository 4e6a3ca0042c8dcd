"""COCO mean average precision."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from fewbit.errors import DataError
from fewbit.extras import load_extra
from fewbit.measure.metrics.metric import Labels, Metric, Outputs


def coco_map(outputs: Sequence[Outputs], labels: Labels) -> float:
    """mAP at IoU 0.50:0.95 as pycocotools computes it.

    The first output holds the final detections of an image, [detections, 6] or [1, detections, 6]: x1, y1, x2, y2, score,
    class. A label holds its boxes, [boxes, 5]: class, x1, y1, x2, y2 in the same units. Models that need decoding or
    suppression take a metric of their own (FILE.py:NAME).
    """
    COCO = load_extra("pycocotools.coco", "metric map").COCO
    COCOeval = load_extra("pycocotools.cocoeval", "metric map").COCOeval
    truths: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    kinds: set[int] = set()
    for image, ((first, *_), label) in enumerate(zip(outputs, labels, strict=True), 1):
        detections = np.asarray(first, np.float64).reshape(-1, first.shape[-1])
        if detections.shape[-1] != 6:
            raise DataError(
                f"metric map takes detections of 6 values (x1, y1, x2, y2, score, class), given {first.shape}"
            )
        for x1, y1, x2, y2, score, kind in detections:
            box = [x1, y1, x2 - x1, y2 - y1]
            found.append({"image_id": image, "category_id": int(kind), "bbox": box, "score": score})
        for kind, x1, y1, x2, y2 in np.asarray(label, np.float64).reshape(-1, 5):
            box, area = [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1)
            kinds.add(int(kind))
            truth = {"id": len(truths) + 1, "image_id": image, "category_id": int(kind), "bbox": box, "area": area}
            truths.append({**truth, "iscrowd": 0})
    if not truths:
        raise DataError("metric map needs at least one labelled box")
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set, found_set = COCO(), COCO()
        images = [{"id": i + 1} for i in range(len(outputs))]
        truth_set.dataset = {"images": images, "annotations": truths, "categories": [{"id": k} for k in sorted(kinds)]}
        truth_set.createIndex()
        if not found:
            return 0.0
        found_set = truth_set.loadRes(found)
        evaluation = COCOeval(truth_set, found_set, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


MAP = Metric("map", coco_map, points=True)
