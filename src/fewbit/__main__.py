"""`python -m fewbit` is the command `fewbit`."""

from fewbit.cli.main import run

run()
