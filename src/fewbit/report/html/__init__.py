"""The page of `fewbit auto`: one file that needs nothing else, made from the document that the command prints."""

from fewbit.report.html.page import write_html

__all__ = ["write_html"]
