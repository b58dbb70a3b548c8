"""The command line: one verb a file, each thin: parse, call the API, print."""

from __future__ import annotations

from striate.cli.main import main, program

__all__ = ["main", "program"]
