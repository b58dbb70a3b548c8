"""Errors of public functions name Python arguments: a misspelled keyword gets the right one, and an option in a remedy
becomes the argument that it stands for.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from typing import ParamSpec, TypeVar

from striate.errors import REMEDIES_AS_OPTIONS, StriateError, UsageError
from striate.training.config import Config
from striate.training.config_file import field_names, get_field, nearest_field, option_of
from striate.training.field_aliases import FIELDS_OF_OTHER_TOOLS, SHORT_OPTIONS

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_ARGUMENTS = {"task.loss": "loss", "augment.transform": "transform", "schedule.name": "scheduler"}
"""Fields that are arguments but not short options."""
_OTHER_TOOLS = {"project": "out", "output": "out", "output_dir": "out", "save_dir": "out", "pretrained": "weights"}
_OTHER_TOOLS |= dict.fromkeys(("callback", "callbacks", "on_epoch_end"), "on_event")
_FIELDS = {option.removeprefix("--"): field for field, option in SHORT_OPTIONS.items()}
_OPTION = re.compile(
    r"(?P<left>leave out )?(?<!\S)--(?P<name>\w[\w.-]*\w)"
    r"(?: (?!(?:or|and|in|to|on|with|for|of|is|beside)\b)"
    r"(?P<value>'[^']*'|\"[^\"]*\"|[\w+-](?:[^\s,;:?)]|[,:](?=\w))*))?"
)
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
_INSTEAD = {
    "step": "loss=… and optimizer=…; to diagnose your own training loop: striate.diagnose(model, train, step=step)"
}


def known_keywords(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The function with UsageError in place of TypeError for an unknown keyword, and, unless a command calls it, with
    its arguments in place of options in errors."""
    parameters = signature(function).parameters
    known = [*parameters]

    @wraps(function)
    def called(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        for name, value in kwargs.items():
            if name not in known:
                got = f"no such argument of {function.__name__}"
                remedy = _INSTEAD.get(name) or _nearest(name, value, known) or "leave out this argument"
                raise UsageError(f"striate.{function.__name__}({name}=…)", got, ", ".join(known), remedy)
        if REMEDIES_AS_OPTIONS.get():
            return function(*args, **kwargs)
        inside = REMEDIES_AS_OPTIONS.set(True)  # functions that this one calls have other arguments
        try:
            return function(*args, **kwargs)
        except StriateError as error:
            error.where = in_arguments(error.where, parameters)
            error.remedy = error.in_python or in_arguments(error.remedy, parameters)
            if "set" in parameters:  # a field that does not exist
                error.where = re.sub(r"^--(\w+\.[\w.]+)$", r'set={"\1": …}', error.where)
            raise
        finally:
            REMEDIES_AS_OPTIONS.reset(inside)

    return called


def in_arguments(remedy: str, parameters: Mapping[str, Parameter]) -> str:
    """The remedy with arguments of a function, or fields of its `set`, in place of options; a command in it stays as it
    is."""
    text, command, rest = remedy.partition("striate ")
    if "--" not in text:
        return remedy

    def argument(option: re.Match[str]) -> str:
        given, typed = option["name"], option["value"]
        if given == "set" and typed is not None and "=" in typed:  # --set code=[]
            given, _, typed = typed.partition("=")
        field = _FIELDS.get(given, given)
        name = _ARGUMENTS.get(field, option_of(field).removeprefix("--"))
        own = name in parameters and typed != "null"  # an argument that is None counts as not given
        if not own and ("set" not in parameters or field not in field_names()):
            return option[0]
        if option["left"]:
            return option["left"] + (name if own else f'"{field}" in set')
        value = _as_python(typed, parameters[name].default if own else get_field(Config(), field))
        return f"{name}={value}" if own else f'set={{"{field}": {value}}}'

    return _OPTION.sub(argument, text) + command + rest


def _as_python(text: str | None, default: object) -> str:
    """The value of an option as Python code."""
    if text is None:
        return "True" if isinstance(default, bool) else "…"
    word = shlex.split(text)[0]
    if word in ("true", "false"):
        return word.title()
    return word if _NUMBER.fullmatch(word) or word == "[]" else repr(word)


def _nearest(name: str, value: object, known: list[str]) -> str | None:
    """The argument to write instead, or else the field of the configuration; None without a similar one."""
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    shown = repr(value) if plain and len(repr(value)) <= 40 else "…"
    close, field = next(iter(get_close_matches(name, known, 1)), None), nearest_field(name)
    elsewhere = name in _OTHER_TOOLS or name.replace("_", "-") in FIELDS_OF_OTHER_TOOLS
    if close and not (elsewhere or (field or "").endswith(f".{name}")):
        return f"{close}={shown}"
    argument = _OTHER_TOOLS.get(name) or _ARGUMENTS.get(field or "", option_of(field or "").removeprefix("--"))
    if argument in known:
        return f"{argument}={shown}"
    return f'set={{"{field}": {shown}}}' if field and "set" in known else None
