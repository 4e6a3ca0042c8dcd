"""The command's entry: which commands there are, and how an error ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from fewbit.cli import (
    auto,
    bench,
    compare,
    data,
    demo,
    eval,
    inspect,
    quantize,
    report,
    reproduce,
    sensitivity,
    targets,
    tune,
)

app = typer.Typer(
    name="fewbit",
    help="Make a trained neural network smaller and faster by quantization, and prove that it still works.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quantize")(quantize.command)
app.command("auto")(auto.command)
app.command("tune")(tune.command)
app.command("eval")(eval.command)
app.command("bench")(bench.command)
app.command("compare")(compare.command)
app.command("sensitivity")(sensitivity.command)
app.command("inspect")(inspect.command)
app.command("reproduce")(reproduce.command)
app.command("report")(report.command)
app.command("demo")(demo.command)
app.add_typer(data.app, name="data")
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

# typer shows `BadParameter` alone of its errors about usage; older versions take them from click, newer have their own.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _interrupted() -> NoReturn:
    sys.stderr.write("fewbit: interrupted; no file was left half-written\n")
    sys.exit(INTERRUPTED)


def _misused(error: Exception, words: Sequence[str]) -> NoReturn:
    """End on a usage error: what is wrong, and whose help to read, in one line."""
    path, command = "fewbit", typer.main.get_command(app)
    for word in words:
        found = getattr(command, "commands", {}).get(word)
        if found is None:
            break
        path, command = f"{path} {word}", found
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    text = " ".join(text.replace("Value error, ", "").split()).rstrip(".")
    cause = error.__cause__
    if cause is not None and hasattr(cause, "errors"):  # pydantic's words, which may leave out the value
        given = repr(cause.errors()[0]["input"])
        text += "" if given in text else f", given {given}"
    remedy = f"{' ' if text.endswith('?') else '; '}see {path} --help"
    sys.stderr.write(f"fewbit: {text[0].lower()}{text[1:]}{remedy}\n")
    sys.exit(2)


def run() -> None:
    """Run the command and exit with its code: 0 done, 2 wrong input, 3 no candidate, 130 interrupted, 1 else."""
    from fewbit.errors import FewbitError

    # This process is our own. Denormals: see fewbit.runtimes.onnxruntime. The matrices of layers are small: the threads of
    # BLAS would wait for each other more than they work, at twice to three times the CPU time.
    os.environ.setdefault("FEWBIT_FLUSH_DENORMALS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = app(prog_name="fewbit", standalone_mode=False)
    except FewbitError as error:
        if os.environ.get("FEWBIT_DEBUG"):
            raise
        sys.stderr.write(f"fewbit: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except _UsageError as error:
        _misused(error, sys.argv[1:])
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if code == INTERRUPTED:  # typer turns Ctrl-C inside a command into this code, without a word
        _interrupted()
    sys.exit(code)
