"""Peak memory and CPU-seconds of `fewbit quantize` over the number of samples (repeated where the case has fewer)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from cases import load_zoo, zoo_folder
from cost import run

SOURCE = """
import importlib.util, itertools, sys
spec = importlib.util.spec_from_file_location("zoo", {zoo!r})
zoo = importlib.util.module_from_spec(spec); sys.modules["zoo"] = zoo; spec.loader.exec_module(zoo)
def samples(count):
    return itertools.islice(itertools.chain.from_iterable(zoo.load({case!r}).calibration() for _ in itertools.count()), count)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo")
    parser.add_argument("--case", default="imagenet_efficientnet_lite0")
    parser.add_argument("--samples", type=int, nargs="+", default=[50, 100, 800])
    arguments = parser.parse_args()
    folder = zoo_folder(arguments.zoo)
    model = load_zoo(folder).load(arguments.case).model
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source.py"
        source.write_text(SOURCE.format(zoo=str(folder / "zoo.py"), case=arguments.case))
        for count in arguments.samples:
            command = [
                sys.executable,
                "-m",
                "fewbit",
                "quantize",
                model,
                "-o",
                str(Path(scratch) / "out.onnx"),
                "--no-verify",
                "--quiet",
                "--limit",
                str(count),
                "--data",
                f"{source}:samples({count})",
            ]
            cost = run(command, Path(scratch) / "log")
            print(
                f"{count} samples: {cost.cpu_seconds} CPU-s, {cost.seconds} s, {cost.peak_mb:.0f} MB, exit {cost.exit_code}"
            )


main()
