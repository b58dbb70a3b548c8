"""A misspelt keyword of a public function is answered with the right one."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from striate.errors import UsageError
from striate.training.config_file import nearest_field, option_of
from striate.training.field_words import FIELDS_ELSEWHERE

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_ARGUMENTS = {"task.loss": "loss", "augment.transform": "transform", "schedule.name": "scheduler"}
"""Fields that are arguments, and no short options."""
_ELSEWHERE = {"project": "out", "output": "out", "output_dir": "out", "save_dir": "out", "pretrained": "weights"}
_ELSEWHERE |= dict.fromkeys(("callback", "callbacks", "on_epoch_end"), "on_event")
_INSTEAD = {
    "step": "loss=… and optimizer=…; a loop of your own stays as it is: striate.diagnose(model, train, step=step)"
}


def known_keywords(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The function, with UsageError in place of TypeError for a keyword that it does not have."""
    known = [*signature(function).parameters]

    @wraps(function)
    def called(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        for name, value in kwargs.items():
            if name not in known:
                got = f"no such argument of {function.__name__}"
                remedy = _INSTEAD.get(name) or _nearest(name, value, known) or "leave it out"
                raise UsageError(f"striate.{function.__name__}({name}=…)", got, ", ".join(known), remedy)
        return function(*args, **kwargs)

    return called


def _nearest(name: str, value: object, known: list[str]) -> str | None:
    """What to write: an argument, or else a field of the configuration."""
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    shown = repr(value) if plain and len(repr(value)) <= 40 else "…"
    close, field = next(iter(get_close_matches(name, known, 1)), None), nearest_field(name)
    elsewhere = name in _ELSEWHERE or name.replace("_", "-") in FIELDS_ELSEWHERE
    if close and not (elsewhere or (field or "").endswith(f".{name}")):
        return f"{close}={shown}"
    argument = _ELSEWHERE.get(name) or _ARGUMENTS.get(field or "", option_of(field or "").removeprefix("--"))
    if argument in known:
        return f"{argument}={shown}"
    return f'set={{"{field}": {shown}}}' if field and "set" in known else None
