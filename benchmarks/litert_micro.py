"""MLPerf Tiny for microcontrollers: our int8 files beside those of its authors, in accuracy, bytes and memory.

    python benchmarks/litert_micro.py [--zoo FOLDER] [--effort standard] [--recipe int8]

Each model_float.tflite is quantized for `litert-micro` on the calibration samples of its case, and ref_int8.tflite is what
MLCommons publishes. Both are evaluated on the whole evaluation set, with LiteRT's reference kernels, which microcontrollers
run, and with XNNPACK. FOLDER has zoo.py and the cases.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cases import load_zoo, zoo_folder

import fewbit
from fewbit.runtimes.litert import Kernels, LiteRtSession, open_session
from fewbit.runtimes.litert_ops import executed_ops

CASES = ("mlperf_ic_resnet8", "mlperf_kws_dscnn", "mlperf_ad_autoencoder")
KERNELS: tuple[Kernels, ...] = ("reference", "xnnpack")
_CHANNELS_LAST = (0, 2, 3, 1)


@dataclass(frozen=True)
class Row:
    """A file. values: the case's metric, by kernels."""

    case: str
    label: str
    values: tuple[float, ...]
    size: int
    arena: int
    ops: str


def feeds(samples: Any, name: str) -> Iterator[dict[str, np.ndarray]]:
    """Samples of the ONNX form of a case as its LiteRT form takes them: channels last."""
    for sample in samples:
        (array,) = sample.values()
        yield {name: array.transpose(_CHANNELS_LAST) if array.ndim == 4 else array}


def outputs(session: LiteRtSession, array: np.ndarray) -> list[np.ndarray]:
    """The outputs of a batch, sample by sample where the file has a fixed batch of 1."""
    (name,) = session.inputs
    fixed = session.input_shapes()[name][1][0] == 1
    parts = [array[i : i + 1] for i in range(len(array))] if fixed else [array]
    made = [session.run({name: part}) for part in parts]
    return [np.concatenate(column) for column in zip(*made, strict=True)]


def measured(case: Any, label: str, path: Path) -> Row:
    values = []
    for kernels in KERNELS:
        session = open_session(path, kernels=kernels)
        given = feeds(case.evaluation(), session.inputs[0])
        values.append(float(case.score(outputs(session, feed[session.inputs[0]]) for feed in given)))
    executed = executed_ops(path, kernels="reference")
    names: Counter[str] = Counter()
    for op in executed.ops:
        names[op.op] += op.count
    arena = executed.arena.bytes if executed.arena is not None else 0
    ops = ", ".join(f"{name} {count}" for name, count in names.items())
    return Row(case.name, label, tuple(values), path.stat().st_size, arena, ops)


def rows(zoo: Any, name: str, recipe: str, effort: str, folder: Path) -> Iterator[Row]:
    case = zoo.load(name)
    source = Path(case.folder)
    float_file, ours = source / "model_float.tflite", folder / f"{name}.tflite"
    (entry,) = fewbit.load(float_file).inputs
    calibration = list(feeds(case.calibration(), entry.name))
    fewbit.quantize(float_file, calibration, recipe, "litert-micro", ours, effort=effort)
    yield measured(case, "float", float_file)
    yield measured(case, "MLCommons int8", source / "ref_int8.tflite")
    yield measured(case, f"fewbit {recipe}", ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--zoo", metavar="FOLDER")
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--recipe", default="int8")
    parser.add_argument("--case", choices=CASES, action="append")
    args = parser.parse_args()
    zoo = load_zoo(zoo_folder(args.zoo))
    print("| case | file | reference kernels | XNNPACK | bytes | arena, bytes | operators |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.case or CASES:
            for row in rows(zoo, name, args.recipe, args.effort, Path(folder)):
                values = " | ".join(f"{value:.4f}" for value in row.values)
                print(f"| {row.case} | {row.label} | {values} | {row.size} | {row.arena} | {row.ops} |", flush=True)


if __name__ == "__main__":
    main()
