"""Peak memory and CPU-seconds of `fewbit quantize` over the number of samples (repeated where the case has fewer), and of
onnxruntime's MinMax in turns with it."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from cases import load_zoo, zoo_folder
from cost import Cost, run

PEER = "ort-minmax"
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
    parser.add_argument("--rounds", type=int, default=1, help="medians of so many")
    parser.add_argument("--batch", type=int, nargs="*", default=[], help="also with --batch of these")
    parser.add_argument(
        "--peer-env", type=Path, help=f"an environment with onnxruntime, such as .cache/peers/ort: {PEER} too"
    )
    arguments = parser.parse_args()
    folder = zoo_folder(arguments.zoo)
    model = load_zoo(folder).load(arguments.case).model
    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "source.py", str(Path(scratch) / "out.onnx")
        source.write_text(SOURCE.format(zoo=str(folder / "zoo.py"), case=arguments.case))
        for count in arguments.samples:
            data = ["--limit", str(count), "--data", f"{source}:samples({count})"]
            plain = [sys.executable, "-m", "fewbit", "quantize", model, "-o", out, "--no-verify", "--quiet", *data]
            commands = {"fewbit": plain}
            commands |= {f"fewbit --batch {n}": [*plain, "--batch", str(n)] for n in arguments.batch}
            if arguments.peer_env is not None:
                python, script = arguments.peer_env / "bin" / "python", Path(__file__).parent / "peers" / "quantize.py"
                commands[PEER] = [str(python), str(script), PEER, model, str(folder), arguments.case, out, str(count)]
            costs: dict[str, list[Cost]] = {name: [] for name in commands}
            for _ in range(arguments.rounds):
                for name, command in commands.items():
                    costs[name].append(run(command, Path(scratch) / "log"))
            for name, each in costs.items():
                cpu, wall = (statistics.median(getattr(c, part) for c in each) for part in ("cpu_seconds", "seconds"))
                peak, failed = max(c.peak_mb for c in each), sum(c.exit_code != 0 for c in each)
                print(
                    f"{count} samples, {name}: {cpu:.2f} CPU-s, {wall:.2f} s, {peak:.0f} MB, {failed} failed",
                    flush=True,
                )


main()
