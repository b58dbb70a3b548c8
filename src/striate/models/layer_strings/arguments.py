"""The arguments of a layer or zoo model in a layer string, checked against its parameters."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from striate.models.layer_strings.fault import Edit, Fault
from striate.models.layer_strings.words import MAX_NUMBER, Parameter, Value, show_signature, show_value
from striate.wording import several

_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Argument:
    """`value` or `name=value` in the text of a layer."""

    name: str | None
    value: Value
    start: int
    """Index of its first character."""
    value_start: int
    """Index of the first character of its value."""
    end: int
    """Index after its last character."""
    written: str
    """The text of the value."""


@dataclass(frozen=True)
class Call:
    """`name` or `name(arguments)` in a layer string."""

    name: str
    arguments: tuple[Argument, ...]
    start: int
    """Index of its first character."""
    end: int
    """Index after its last character."""


SHORTEST_BEGINNING = 3


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word with the most similar spelling; None if none is similar."""
    return next(iter(nearest_few(word, known, 1)), None)


def nearest_few(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Known words that begin with the word, in their order, then words with a similar spelling, the most similar
    first."""
    word, words = word.lower(), list(known)
    begun = [name for name in words if len(word) >= SHORTEST_BEGINNING and name.startswith(word)]
    close = difflib.get_close_matches(word, words, n=most, cutoff=0.6)
    return list(dict.fromkeys((*begun, *close)))[:most]


def bind(call: Call, parameters: tuple[Parameter, ...]) -> dict[str, Value]:
    """The given values by parameter name; for a `many` parameter, the tuple of all positional arguments.

    Raises Fault where an argument is unknown, missing, given twice, one too many, or of the wrong kind or range.
    """
    bound: dict[str, Value] = {}
    signature = show_signature(call.name, parameters)
    positional = [parameter for parameter in parameters if not parameter.many]
    many = next((parameter for parameter in parameters if parameter.many), None)
    named = False
    for index, argument in enumerate(call.arguments):
        if argument.name is None:
            if named:
                raise _after_named(call, argument, positional, bound, signature)
            if many is not None:
                value = check_value(call.name, many, argument)
                bound[many.name] = (*_as_tuple(bound.get(many.name)), int(value))  # type: ignore[arg-type]
                continue
            if index >= len(positional):
                taken = several(len(positional), "argument") if positional else "no argument"
                got = f"{several(len(call.arguments), 'argument')} for `{call.name}`, which takes {taken}"
                raise Fault(argument.start, got, signature, without_argument(call, index))
            parameter = positional[index]
        else:
            named = True
            parameter = _named(call, index, positional, signature)
        if parameter.name in bound:
            got = f"`{parameter.name}` of `{call.name}` twice"
            raise Fault(argument.start, got, f"each argument once: {signature}", without_argument(call, index))
        bound[parameter.name] = check_value(call.name, parameter, argument)
    _check_complete(call, positional, bound, signature)
    return bound


def check_value(owner: str, parameter: Parameter, argument: Argument) -> Value:
    """The value, converted to its parameter's form; Fault where kind or range is wrong."""
    value, kind = argument.value, parameter.kind
    what = f"`{parameter.name}` of `{owner}`"
    if kind == "flag":
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise _wrong(argument, what, "true or false", "false" if value == 0 else "true")
    if kind == "choice":
        if isinstance(value, str) and value in parameter.choices:
            return value
        close = nearest(str(value), parameter.choices) or parameter.choices[0]
        raise _wrong(argument, what, " or ".join(parameter.choices), close)
    if kind == "pad" and value == "same":
        return value
    _refuse_too_large(parameter, argument)
    if kind in ("size", "pad"):
        return _size(argument, parameter, what)
    if isinstance(value, bool | str | tuple) or value is None:
        raise _wrong(argument, what, _wanted(parameter), _replacement(parameter, value))
    if kind in ("count", "odd") and isinstance(value, float):
        raise _wrong(argument, what, _wanted(parameter), str(max(int(parameter.low), round(value))))
    if not parameter.low <= value <= parameter.high:
        limit = parameter.low if value < parameter.low else parameter.high
        limit = int(limit) if kind != "number" else limit
        raise _wrong(argument, what, _wanted(parameter), show_value(limit))
    if kind == "odd" and value % 2 == 0:
        raise _wrong(argument, what, _wanted(parameter), show_value(value - 1))
    return float(value) if kind == "number" else value


_WIDTHS, _USUAL_WIDTH = ("filters", "n", "sizes"), 64


def _refuse_too_large(parameter: Parameter, argument: Argument) -> None:
    """Raise Fault for a number above MAX_NUMBER. The remedy is a usual value, as the largest one could rarely be
    built."""
    value = argument.value
    parts = value if isinstance(value, tuple) else (value,)
    large = [isinstance(part, int | float) and abs(part) > MAX_NUMBER for part in parts]
    if not any(large):
        return
    usual = str(_USUAL_WIDTH) if parameter.name in _WIDTHS else _replacement(parameter, None)
    written = argument.written.split("x") if isinstance(value, tuple) else [argument.written]
    new = "x".join(usual if too else part for part, too in zip(written, large, strict=True))
    raise Fault(
        argument.value_start,
        f"the number {shorten(argument.written)}",
        f"numbers up to {MAX_NUMBER}",
        Edit(argument.value_start, argument.end, new),
    )


def shorten(written: str) -> str:
    """A long number, shortened for an error."""
    return written if len(written) <= 20 else f"{written[:17]}… ({several(len(written), 'character')})"


def _size(argument: Argument, parameter: Parameter, what: str) -> Value:
    value = argument.value
    if isinstance(value, str | float | bool) or value is None:
        raise _wrong(argument, what, _wanted(parameter), _replacement(parameter, value))
    low = int(parameter.low)
    parts = value if isinstance(value, tuple) else (value,)
    if len(parts) > 3:
        raise _wrong(argument, what, "at most three axes, such as 3x3x3", show_value(parts[:3]))
    if min(parts) < low:
        fixed = tuple(max(low, part) for part in parts)
        raise _wrong(argument, what, _wanted(parameter), show_value(fixed))
    return value


def _wanted(parameter: Parameter) -> str:
    low, high = show_value(float(parameter.low)), show_value(float(parameter.high))
    if parameter.kind in ("size", "pad"):
        same = ", or same" if parameter.kind == "pad" else ""
        return f"whole numbers from {low}, one for all axes (3) or one for each (3x5){same}"
    whole = {"count": "a whole number", "odd": "an odd number"}.get(parameter.kind, "a number")
    return f"{whole} from {low} to {high}"


def _replacement(parameter: Parameter, value: Value) -> str:
    if isinstance(value, tuple):
        return str(max(int(parameter.low), value[0]))
    default = parameter.default
    return str(parameter.example) if default is ... or default is None else show_value(default)


def _wrong(argument: Argument, what: str, expected: str, new: str) -> Fault:
    shown = repr(argument.value) if isinstance(argument.value, float) else show_value(argument.value)
    got = f"{what} is {shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 1] + '…'}"
    return Fault(argument.value_start, got, expected, Edit(argument.value_start, argument.end, new))


def _named(call: Call, index: int, parameters: list[Parameter], signature: str) -> Parameter:
    argument = call.arguments[index]
    name = str(argument.name)
    known = {parameter.name: parameter for parameter in parameters}
    if name in known:
        return known[name]
    close = nearest({"padding": "pad", "size": "kernel", "rate": "p"}.get(name, name), known)
    edits = [Edit(argument.start, argument.start + len(name), close)] if close else []
    guess = f"; did you mean `{close}`?" if close else ""
    got = f"`{call.name}` has no argument `{name}`{guess}"
    raise Fault(argument.start, got, signature, *edits, without_argument(call, index))


def _after_named(
    call: Call, argument: Argument, parameters: list[Parameter], bound: dict[str, Value], signature: str
) -> Fault:
    free = next((parameter.name for parameter in parameters if parameter.name not in bound), None)
    index = call.arguments.index(argument)
    edit = Edit(argument.start, argument.start, f"{free}=") if free else without_argument(call, index)
    got = f"`{show_value(argument.value)}` without its name after a named argument"
    return Fault(argument.start, got, f"a name before it: {signature}", edit)


def _check_complete(call: Call, parameters: list[Parameter], bound: dict[str, Value], signature: str) -> None:
    missing = [parameter for parameter in parameters if parameter.required and parameter.name not in bound]
    if not missing:
        return
    names = " and ".join(f"`{parameter.name}`" for parameter in missing)
    values = {p.name: bound.get(p.name, p.example) for p in parameters if p.name in bound or p.required}
    given = ",".join(
        show_value(values[p.name]) if p.required else f"{p.name}={show_value(values[p.name])}"
        for p in parameters
        if p.name in values
    )
    edit = Edit(call.start, call.end, f"{call.name}({given})")
    raise Fault(call.start, f"`{call.name}` without {names}", signature, edit)


def without_argument(call: Call, index: int) -> Edit:
    """The call's argument and one comma removed."""
    arguments = call.arguments
    if index > 0:
        return Edit(arguments[index - 1].end, arguments[index].end, "")
    end = arguments[1].start if len(arguments) > 1 else arguments[0].end
    return Edit(arguments[0].start, end, "")


def _as_tuple(value: Value) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else ()
