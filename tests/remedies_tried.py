"""A remedy that is printed is tried: options and commands by the command line, lines of Python by the parser."""

from __future__ import annotations

import ast
import re
import shlex

from striate.cli.fields import chosen_fields
from striate.cli.main import join_fields, make_app
from striate.records import Remedy
from striate.training.request import merge_request, read_config

APP = make_app()
TRAIN_OPTION = re.compile(r"(?<![\w-])--([a-z_]+\.[\w.]+) ([\w.-]+)")


def try_remedy(remedy: str) -> None:
    """Raises where a command cannot be typed, a field does not exist or take the value, or Python cannot be parsed."""
    if isinstance(remedy, Remedy):
        try_command(["train", "DATA", *shlex.split(remedy.options)])
        try_command(list(remedy.command))
    for name, value in TRAIN_OPTION.findall(remedy):
        try_command(["train", "DATA", f"--{name}", value.rstrip(".")])
    for code in re.findall(r"`([^`]+)`", remedy):
        if code.startswith("striate "):
            try_command(shlex.split(code)[1:])
        elif "…" not in code:
            # A part of a line, such as `.detach()` or `with torch.no_grad():`.
            ast.parse(("x" if code.startswith(".") else "") + code.strip() + (" pass" if code.endswith(":") else ""))


def try_command(words: list[str]) -> None:
    """Parse the words after `striate` as the program does; the fields of a training are merged into a configuration."""
    if not words:
        return
    command, bound, _ = APP.parse_args(join_fields(words), exit_on_error=False, print_error=False)
    if command.__name__ == "train":
        fields = chosen_fields({"batch": bound.arguments.get("batch")}, bound.arguments.get("set") or [])
        merge_request(read_config(None), data="digits", fields=fields)
