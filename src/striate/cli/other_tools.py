"""Options and commands of other tools, and ours in their place: `--imgsz` is `--size`, `fit` is `train`.

They raise an error whose remedy is the user's command line with our options.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from cyclopts import App

from striate.errors import UsageError
from striate.training.field_aliases import FIELDS_OF_OTHER_TOOLS, SHORT_OPTIONS

VERBS = {
    "fit": "train",
    "finetune": "train",
    "evaluate": "eval",
    "test": "eval",
    "validate": "eval",
    "val": "eval",
    "inference": "predict",
    "infer": "predict",
    "detect": "predict",
    "info": "summary",
    "tune": "sweep",
}
"""Our verb by the verb of another tool."""


class Replacement(NamedTuple):
    """Our option in place of one of another tool."""

    option: str
    """Our option; empty where there is none."""
    why: str = ""
    """Why there is none; else empty."""
    flag: bool = False
    """Whether the other tool's option may have no value: a word after it is its value only if it looks like one."""


_NO_WORKERS = "no workers: images are decoded once and then read from memory; --execution.threads sets the threads"
_VALIDATES = "no such option: every training validates after each epoch; --data.val_fraction sets the size of the split"
_NO_PRETRAINED = "the file, run or name that the weights come from: --weights resnet18.tv_in1k"

OPTIONS = {
    **{word: Replacement(SHORT_OPTIONS.get(field, f"--{field}")) for word, field in FIELDS_OF_OTHER_TOOLS.items()},
    **dict.fromkeys(("project", "output", "output-dir", "save-dir"), Replacement("--out")),
    "pretrained": Replacement("--weights", _NO_PRETRAINED, flag=True),
    "workers": Replacement("", _NO_WORKERS),
    "num-workers": Replacement("", _NO_WORKERS),
    "val": Replacement("", _VALIDATES, flag=True),
}
"""Our option by the option of another tool, without leading dashes and with `-` for `_`."""

_ARGUMENTS = {
    "data": ("train", "sweep", "plan", "lr-find", "doctor", "baseline", "check", "show", "pack"),
    "dataset": ("train", "sweep", "plan", "lr-find", "doctor", "baseline", "check", "show", "pack"),
    "source": ("predict",),
    "model": ("eval", "predict", "summary", "explain"),
    "run": ("eval", "predict", "explain", "verify", "show", "compare"),
}
"""Our verbs that take the option of another tool as an argument, by that option."""

_TRUTHS = ("true", "false", "1", "0", "yes", "no", "none")
_ASSIGNMENT = re.compile(r"-{0,2}([A-Za-z][\w.-]*)=(.*)", re.DOTALL)


@dataclass
class _Line:
    """A command line that is being rewritten with our verb, arguments and options."""

    verb: list[str]
    options: dict[str, bool]
    arguments: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    got: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def replace(self, got: str, expected: str) -> None:
        self.got.append(got)
        self.expected.append(expected)


def refuse_other_tools(app: App, verbs: Sequence[str], words: Sequence[str]) -> None:
    """Raise UsageError where the command line uses options or commands of other tools."""
    line = _rewritten(words, verbs, lambda verb: _options_of(app, verb))
    if line is None or not line.got or any(_is_unknown(word, line.options) for word in line.rest):
        return
    command = shlex.join(["striate", *line.verb, *line.arguments, *line.rest])
    where = " ".join(["striate", *line.verb])
    raise UsageError(where, ", ".join(line.got), "; ".join(dict.fromkeys(line.expected)), command)


def _is_unknown(word: str, options: dict[str, bool]) -> bool:
    return word.startswith("--") and "." not in word and word.partition("=")[0] not in options


_KNOWN: dict[tuple[str, ...], dict[str, bool]] = {}
"""Cached options by verb: to list them takes a tenth of a second."""


def _options_of(app: App, verb: Sequence[str]) -> dict[str, bool]:
    """Every option of a verb, and whether it takes a value."""
    if (known := _KNOWN.get(tuple(verb))) is not None:
        return known
    found: App = app
    for word in verb:
        found = found[word]
    options = _KNOWN[tuple(verb)] = {
        name: bool not in (argument.hint, *get_args(argument.hint))
        for argument in found.assemble_argument_collection()
        for name in argument.names
    }
    return options


def _rewritten(
    words: Sequence[str], verbs: Sequence[str], options_of: Callable[[Sequence[str]], dict[str, bool]]
) -> _Line | None:
    """The command line with our options; None where all its words may be ours, so that no verb is loaded."""
    ours = words[0] if words[0] in verbs else VERBS.get(words[0])
    if ours is None:
        return None
    verb = [ours, *words[1:2]] if ours == "data" else [ours]
    suspects = [word for word in words[len(verb) :] if _is_of_other_tool(word)]
    if ours == words[0] and not suspects:
        return None
    line = _Line(verb, options_of(verb))
    if ours != words[0]:
        line.replace(words[0], f"{ours}, the name of this command in striate")
    _rewrite_rest(line, list(words[len(verb) :]))
    return line


def _is_of_other_tool(word: str) -> bool:
    assigned = _ASSIGNMENT.fullmatch(word)
    if assigned and not word.startswith("-"):
        return not os.path.exists(word)  # noqa: PTH110 - False also for a name that no file can have
    name = _bare_name(word)
    return word.startswith("--") and (name in OPTIONS or name in _ARGUMENTS)


def _bare_name(word: str) -> str:
    return word.removeprefix("--").partition("=")[0].replace("_", "-")


def _rewrite_rest(line: _Line, rest: list[str]) -> None:
    while rest:
        word = rest.pop(0)
        name = "--" + word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and (name in line.options or "." in name):
            line.rest.append(word)
            takes_value = line.options.get(name, True) and "=" not in word
            if takes_value and rest and not rest[0].startswith("--"):
                line.rest.append(rest.pop(0))
        elif _is_of_other_tool(word):
            _replace(line, word, rest)
        elif word.startswith("--") and _is_option_of_a_field(name):
            _drop(line, word, rest)
        elif word.startswith("-"):
            line.rest.append(word)
        else:
            (line.rest if line.rest else line.arguments).append(word)


def _is_option_of_a_field(option: str) -> bool:
    from striate.training.config_file import field_names, option_of  # `striate --help` needs no configuration

    return option in map(option_of, field_names())


def _drop(line: _Line, word: str, rest: list[str]) -> None:
    """Leave out an option that only other verbs have, with its value."""
    value = [] if "=" in word or not rest or rest[0].startswith("--") else [rest.pop(0)]
    line.replace(" ".join([word, *value]), f"what `striate {' '.join(line.verb)} --help` lists")


def _replace(line: _Line, word: str, rest: list[str]) -> None:
    """Rewrite one word of another tool, with its value."""
    name = _bare_name(word)
    entry = OPTIONS.get(name)
    assigned = _ASSIGNMENT.fullmatch(word)
    value = assigned[2] if assigned else None
    if value is None and rest and not rest[0].startswith("--"):
        alone = entry is not None and entry.flag and rest[0].lower() not in _TRUTHS and "." not in rest[0]
        value = None if alone else rest.pop(0)
    option = f"--{name}" if entry is None else entry.option
    option = option if option in line.options else f"--{name.replace('-', '_')}"
    given = word if assigned or value is None else f"{word} {value}"
    if line.verb[-1] in _ARGUMENTS.get(name, ()) and value is not None:
        line.arguments.insert(len(line.arguments) if name == "source" else 0, value)
        line.replace(given, f"{value} as an argument")
    elif (
        (option in line.options or "." in option)
        and value is not None
        and not (entry and entry.flag and value.lower() in _TRUTHS)
    ):
        line.rest += [option, value]
        line.replace(given, option)
    elif entry is None and word.startswith("-"):
        line.rest += [word] if value is None else [word, value]
    elif entry is None:
        line.arguments.append(word)
    else:
        line.replace(given, entry.why or f"what `striate {' '.join(line.verb)} --help` lists")
