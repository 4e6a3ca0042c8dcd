"""Whether int8 is better calibrated on the 32 samples that `fewbit data select` chooses than on the first, or on random ones.

    python benchmarks/selection.py --cases NAME ... [--zoo FOLDER] [--count 32] [--draws 10]

Of each: the least SQNR in dB over the outputs on evaluation samples that are not chosen from, and how the samples cover all.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from cases import load_zoo, zoo_folder

from fewbit.flow.common import target_for
from fewbit.flow.data import select_data
from fewbit.flow.formats import format_of
from fewbit.flow.opening import load
from fewbit.flow.outputs import OutputJudge
from fewbit.flow.quantize import quantize

_JUDGED = 64  # evaluation samples
_NO_REPAIR = -100.0  # dB: no layer goes back to float, which would hide a difference


def measure(zoo: Any, folder: Path, case: str, count: int, draws: int) -> None:
    hub = load(next(path for path in sorted((folder / case).glob("*.onnx"))))
    feeds = list(zoo.calibration(case))
    judge = OutputJudge(hub, [f for f, _ in islice(zoo.evaluation(case), _JUDGED)], format_of(target_for("ort-cpu")))

    def sqnr(positions: Sequence[int]) -> float:
        some = [feeds[i] for i in positions]
        return judge.sqnr(quantize(hub, some, verify=False, limit=len(some), min_sqnr=_NO_REPAIR).model)

    with tempfile.TemporaryDirectory() as out:
        found = select_data(hub, feeds, Path(out) / "chosen", count)
    drawn = [
        sqnr(sorted(np.random.default_rng(seed).choice(len(feeds), count, replace=False))) for seed in range(draws)
    ]
    print(
        f"| {case} | {len(feeds)} | {sqnr(found.positions):.1f} | {sqnr(range(count)):.1f} | {np.mean(drawn):.1f} "
        f"({min(drawn):.1f} to {max(drawn):.1f}) | {sqnr(range(len(feeds))):.1f} | "
        f"{found.chosen.mean_distance:.2f} / {found.first.mean_distance:.2f} | "
        f"{found.chosen.ranges:.0%} / {found.first.ranges:.0%} |",
        flush=True,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--zoo")
    arguments.add_argument("--cases", nargs="+", required=True)
    arguments.add_argument("--count", type=int, default=32)
    arguments.add_argument("--draws", type=int, default=10)
    given = arguments.parse_args()
    folder = zoo_folder(given.zoo)
    zoo = load_zoo(folder)
    print("| case | samples | chosen | first | random | all | distance | ranges |")
    print("|---|---|---|---|---|---|---|---|")
    for case in given.cases:
        measure(zoo, folder, case, given.count, given.draws)


if __name__ == "__main__":
    main()
