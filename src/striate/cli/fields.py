"""Options that are fields of the configuration: `--lr`, `--optim.momentum`, `--set FIELD=VALUE`.

Their names, help and choices are derived from the configuration; a verb only names the fields that it takes. The module
also reads sizes as a user types them: `3x224x224`, `13`, `1x2`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, get_args, get_origin

from cyclopts import Group, Parameter

from striate.errors import UsageError, pasted
from striate.training.config_fields import Field, config_fields, sections
from striate.training.config_file import option_of
from striate.training.request import requested_fields

Data = Annotated[str | None, Parameter(help=config_fields()["data.source"].help)]
"""The data argument of a verb that trains."""
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
"""An option without a value."""

FIRST = -1
"""Sort key of a group of options that comes before all others."""
_SHORT = Group("Common options", sort_key=0)
_OWN = Group("Options of this command", sort_key=1)
_ORDER = (
    *("model.name", "budget.epochs", "budget.minutes", "optim.lr", "batch", "data.size", "task.name", "model.weights"),
    *("recipe", "optim.name", "execution.device", "budget.patience", "budget.target", "seed", "keep", "cv", "baseline"),
    "compare_single",
    *("execution.plan", "execution.deterministic", "execution.fsdp"),
)
"""The fields whose options have short names, the most used first."""
NOT_ONE_TRAINING = ("budget.target", "cv", "baseline", "compare_single", "keep", "execution.fsdp", "save_seconds")
"""Fields that do not change the steps of one training."""
NOT_FIRST_STEPS = ("budget.patience", *NOT_ONE_TRAINING)
"""Fields that do not change the first steps of a training either."""
_SET = "A field of the configuration: --set optim.momentum=0.8, or shorter --optim.momentum 0.8. May be repeated."


def takes_fields(*prefixes: str, without: Sequence[str] = ()) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a verb the fields of the configuration that a user sets as options: those whose names begin with `prefixes`,
    or all.

    The verb's parameter `fields` gets the given ones by dotted name, as text. `without` lists fields that the verb does
    not take, and those whose short option means something else there.
    """
    fields = [
        field
        for field in config_fields().values()
        if not field.written and field.name not in without and (not prefixes or field.name.startswith(prefixes))
    ]

    def decorate(verb: Callable[..., int]) -> Callable[..., int]:
        signature = inspect.signature(verb, eval_str=True)
        options = {_identifier(field): field for field in sorted(fields, key=_place)}

        @wraps(verb)
        def run(*arguments: Any, set: Sequence[str] | None = None, **given: Any) -> int:
            short = {field.name: given.pop(name, None) for name, field in options.items()}
            chosen = chosen_fields(short, set or ())
            _refuse_left_out(verb.__name__.replace("_", "-"), chosen, without, list(signature.parameters))
            return verb(*arguments, fields=chosen, **given)

        own = [_own(parameter) for name, parameter in signature.parameters.items() if name != "fields"]
        own.sort(key=lambda parameter: parameter.kind is inspect.Parameter.KEYWORD_ONLY)
        every = [*own, _SET_OPTION, *(_option(name, field) for name, field in options.items())]
        run.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        return run

    return decorate


def _refuse_left_out(verb: str, chosen: Mapping[str, Any], without: Sequence[str], own: Sequence[str]) -> None:
    """Raise UsageError for a chosen field among `without`; `own` are the verb's own options by name."""
    for name in (name for name in chosen if name in without):
        option = option_of(name)
        same = option.removeprefix("--") in own
        remedy = f"{option} {pasted(str(chosen[name]))}" if same else f"leave out --{name}"
        raise UsageError(f"--{name}", f"--{name} {chosen[name]}", f"a field that striate {verb} uses", remedy)


def _identifier(field: Field) -> str:
    return re.sub(r"\W", "_", option_of(field.name).removeprefix("--"))


def _place(field: Field) -> int:
    return _ORDER.index(field.name) if field.name in _ORDER else len(_ORDER)


def _option(name: str, field: Field) -> inspect.Parameter:
    short, choices = option_of(field.name), "|".join(field.values.choices)
    group = _SHORT if field.name in _ORDER else _OWN
    if field.section and group is _OWN:
        group = Group(field.section, help=sections()[field.section], sort_key=2 + list(sections()).index(field.section))
    text = field.help if short == f"--{field.name}" else f"{field.help} Also --{field.name}."
    if field.values.kind == "BOOL" and field.name in _ORDER:
        return _keyword(name, Annotated[bool | None, Parameter(name=(short,), help=text, group=group)])
    metavar = choices if 0 < len(choices) < 20 else field.values.kind
    parameter = Parameter(name=(short,), help=text, group=group, metavar=metavar, allow_leading_hyphen=True)
    return _keyword(name, Annotated[str | None, parameter])


def _own(parameter: inspect.Parameter) -> inspect.Parameter:
    """An option of the verb itself, in the group of such options if it names none."""
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        return parameter
    kind, *said = (
        get_args(parameter.annotation) if get_origin(parameter.annotation) is Annotated else (parameter.annotation,)
    )
    return parameter.replace(annotation=Annotated[kind, Parameter(group=_OWN), *said])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_SET_OPTION = _keyword("set", Annotated[list[str] | None, Parameter(negative=(), help=_SET, group=_OWN)])


def chosen_fields(given: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The requested fields by dotted name: those of `given` that are not None, and `assignments` of the form
    `FIELD=VALUE`. Raises UsageError where the two contradict each other, or an assignment has no `=`."""
    return requested_fields(given, _parse(assignments), "leave out {option} {value}")


def _parse(assignments: Sequence[str]) -> dict[str, str | None]:
    fields: dict[str, str | None] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError("--set", repr(assignment), "FIELD=VALUE", "--set optim.lr=0.01")
        new = None if value in ("null", "None") else value
        if fields.get(name, new) != new:
            remedy = f"give one of them: {option_of(name)} {pasted(value)}"
            raise UsageError(name, f"both {fields[name]} and {value}", "one value", remedy)
        fields[name] = new
    return fields


def read_sizes(option: str, text: str, example: str) -> tuple[int, ...]:
    """Read whole numbers with x or × between them. Raises UsageError, whose remedy has the numbers of the text, or else
    `example`; for an argument, `example` is the whole command."""
    parts = re.split("[x×]", text.strip().lower())
    # Nine digits exceed all later limits.
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        found = re.findall(r"\d+", text)
        usable = 1 <= len(found) <= 4 and "." not in text and all(len(number) < 10 for number in found)
        sizes = "x".join(found) if usable else example
        remedy = f"{option} {sizes}" if option.startswith("-") else example
        raise UsageError(option, repr(text[:60]), "whole numbers with x between them", remedy)
    return tuple(map(int, parts))
