"""The command's entry: which commands there are, and how an error ends."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from fewbit.cli import bench, compare, demo, eval, inspect, quantize, targets

app = typer.Typer(
    name="fewbit",
    help="Make a trained neural network smaller and faster by quantization, and prove that it still works.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quantize")(quantize.command)
app.command("eval")(eval.command)
app.command("bench")(bench.command)
app.command("compare")(compare.command)
app.command("inspect")(inspect.command)
app.command("demo")(demo.command)
app.add_typer(targets.app, name="targets")


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        from fewbit import __version__

        typer.echo(f"fewbit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


INTERRUPTED = 130


def _interrupted() -> NoReturn:
    sys.stderr.write("fewbit: interrupted; no file was left half-written\n")
    sys.exit(INTERRUPTED)


def run() -> None:
    """Run the command and exit with its code: 0 done, 2 wrong input, 3 no candidate, 130 interrupted, 1 else."""
    from fewbit.errors import FewbitError

    os.environ.setdefault("FEWBIT_FLUSH_DENORMALS", "1")  # see fewbit.runtimes.onnxruntime; this process is our own
    try:
        app()
    except FewbitError as error:
        if os.environ.get("FEWBIT_DEBUG"):
            raise
        sys.stderr.write(f"fewbit: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns Ctrl-C inside a command into this exit, without a word
            _interrupted()
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
