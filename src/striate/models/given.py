"""Classes and functions that a call of Python gives: the names under which a configuration speaks of them."""

from __future__ import annotations

_GIVEN = "given in Python: "
_objects: dict[str, object] = {}


def is_given(name: str) -> bool:
    """Whether a configuration names something that was given in Python, which no file names."""
    return name.startswith(_GIVEN)


def name_of(value: object) -> str:
    """The name of `value` in a configuration, by which this process finds it again; of a text the text itself."""
    if isinstance(value, str):
        return value
    for name, known in _objects.items():
        if known is value:
            return name
    whose = getattr(value, "__name__", None) or type(value).__name__
    name, number = f"{_GIVEN}{whose}", 2
    while name in _objects:  # another one, such as the class of a notebook's cell that was run again
        name, number = f"{_GIVEN}{whose} ({number})", number + 1
    _objects[name] = value
    return name


def given(name: str) -> object | None:
    """What was given under this name; None where that was in another process."""
    return _objects.get(name)


def give_as(name: str, value: object) -> None:
    """Let `value` be what a run calls `name`: it was given when the run was trained, in another process."""
    _objects[name] = value
