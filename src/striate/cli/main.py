"""Entry point: parses the command line, runs the verb, and returns the exit code."""

from __future__ import annotations

import atexit
import gc
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from time import sleep
from typing import cast, get_args

from cyclopts import (
    App,
    ArgumentCollection,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    UnknownOptionError,
)

from striate.cli.other_tools import refuse_other_tools
from striate.cli.output import LostOutput, guarded_stdout, print_error, print_interrupted, print_note
from striate.errors import REMEDIES_AS_OPTIONS, OtherProcessFailed, StriateError, UsageError, unforeseen
from striate.machine.allocator import keep_by_default
from striate.machine.library_caches import keep_caches_private
from striate.machine.second_process import allow_second, end_second
from striate.machine.waiting import share_the_cores
from striate.training.processes.launch import first_process, launched
from striate.version import VERSION
from striate.wording import several

_PATIENCE = 10.0  # seconds
_VERBS = {
    "Train and judge": {
        "train": "Train a network on a data set, evaluate it, and write a run directory.",
        "eval": "Evaluate a trained network on its test split or on other data.",
        "compare": "Test whether the difference between trained runs is statistically significant.",
        "baseline": "Measure the baselines that a network has to beat.",
        "doctor": "Find out why a network does not learn, and what to change.",
        "plan": "Measure in which precision, memory format and number of threads a network trains fastest here.",
        "learning-curve": "Train a network on all and on parts of the training samples: test metric by their number.",
        "lr-find": "Find the learning rate to train with, by short trainings on copies of the network.",
        "sweep": "Search configurations, from cheap to expensive, and train the best one.",
        "verify": "Check that the files of a run are intact, and that its steps repeat bit for bit.",
    },
    "Data": {
        "data": "Check a data set before training on it, look at it, or pack it.",
        "datasets": "List the data sets that have a name, and where they are.",
    },
    "Networks": {
        "models": "List the networks that have a name.",
        "summary": "Show the layers of a network: shapes, parameters, operations, memory, receptive fields.",
        "connectivity": "Compare one map as fully connected, locally connected, convolution and sparse matrix.",
    },
    "Look and learn": {
        "explain": "Show on one page why a network predicts what it does for an image, and how far to trust that.",
        "play": "Let a network that learned from rewards play, and write what it does as a GIF.",
        "show": "Draw what a network does: its filters, feature maps, and what its units respond to.",
        "lab": "Open the web page: build networks, watch them run, train them, see images as numbers.",
        "filter": "Apply a filter kernel to every pixel of a picture.",
        "pixels": "Show the pixels of a picture as numbers.",
    },
    "Ship": {
        "predict": "Predict for image files, folders of images, and samples of named data sets.",
        "search": "Find the files of a folder that are most like a picture.",
        "match": "Decide whether two pictures show the same person, character or class.",
        "export": "Write a trained network as a file that other programs run, and show that it predicts the same.",
        "serve": "Answer requests for predictions over HTTP, until Ctrl-C.",
        "trust": "Allow the code of a file to run where a run or a configuration names it.",
        "env": "Print machine and versions for a bug report; --measure: how fast the machine is.",
    },
}
_PARTS = {
    "data": {
        "check": "Find problems in a data set: damaged files, duplicates, leaks between splits, doubtful labels.",
        "show": "Draw what a network will see of a data set.",
        "pack": "Decode all images once into a pack file, or copy the image files into WebDataset shards.",
        "convert": "Write a data set of boxes in another layout: COCO, Pascal VOC, YOLO, or a manifest.",
        "crop": "Cut out what a run detects in the pictures of a data set, to train another network on.",
        "index": "Read all WebDataset shards of a folder, and write the index that training needs.",
    },
}
VERBS = tuple(verb for verbs in _VERBS.values() for verb in verbs)
"""Every verb, in the order of `striate --help`."""


def make_app(documented: Sequence[str] = ()) -> App:
    """The command line. Verbs load when they are called: `striate --help` never imports torch.

    The verb that `documented` begins with is loaded, so that its help is its whole docstring.
    """
    app = App(
        name="striate",
        help="A workbench for convolutional networks: train one, see how good it is, use it.",
        version=VERSION,
        help_format="plaintext",
        version_flags=["--version"],
        help_flags=["--help", "-h"],
        suppress_keyboard_interrupt=False,  # `_run` prints what was saved
        group_commands=Group("Other", sort_key=len(_VERBS)),
        config=_refuse_fractions,
    )
    for position, (title, verbs) in enumerate(_VERBS.items()):
        group = Group(title, sort_key=position)
        for order, (verb, text) in enumerate(verbs.items()):
            if verb in _PARTS:
                app.command(_part_of_app(verb, text, group, order, documented))
                continue
            name = {"eval": "evaluate"}.get(verb, verb).replace("-", "_")
            code = f"striate.cli.{name}:{name}"
            if list(documented[:1]) == [verb]:
                app.command(_documented(code), name=verb, group=group, sort_key=order)
            else:
                app.command(code, name=verb, help=text, group=group, sort_key=order)
    app.register_install_completion_command(add_to_startup=False)
    return app


def _refuse_fractions(_app: App, _words: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Raise CoercionError for 1.5 in place of a whole number, which cyclopts would round silently."""
    for argument in arguments:
        if int not in (argument.hint, *get_args(argument.hint)):
            continue
        for token in argument.tokens:
            if re.fullmatch(r"[+-]?\d*\.\d*[1-9]\d*", token.value):
                raise CoercionError(argument=argument, token=token, target_type=int)


def _part_of_app(name: str, text: str, group: Group, order: int, documented: Sequence[str]) -> App:
    part = App(
        name=name,
        help=text,
        group=group,
        sort_key=order,
        help_format="plaintext",
        help_flags=["--help", "-h"],
        version_flags=[],
    )
    for verb, said in _PARTS[name].items():
        place = f"striate.cli.{name}.{verb}:{verb}"
        if list(documented[:2]) == [name, verb]:
            part.command(_documented(place), name=verb)
        else:
            part.command(place, name=verb, help=said)
    return part


def _documented(place: str) -> Callable[..., int]:
    """The function at `module:name`, with each paragraph of its docstring on one line, which the terminal wraps."""
    module, _, name = place.partition(":")
    function: Callable[..., int] = getattr(import_module(module), name)
    text, mark, parameters = inspect.cleandoc(function.__doc__ or "").partition("\n\nParameters\n")
    # In a list of parameters a description is indented, and follows its name.
    described = re.sub(
        r"(\n    .*)((?:\n    .*)+)", lambda found: found[1] + found[2].replace("\n    ", " "), parameters
    )
    function.__doc__ = re.sub(r"(?<!\n)\n(?!\n)", " ", text) + mark + described
    return function


def _ignore_this_folder() -> None:
    """Ignore matplotlib's configuration in the current folder, and, in Python processes that libraries start, modules
    there: its files may be a stranger's."""
    os.environ["PYTHONSAFEPATH"] = "1"
    if os.path.lexists("matplotlibrc"):  # matplotlib reads it when it is imported
        here = Path.cwd()
        os.chdir(here.anchor)
        import matplotlib  # noqa: F401

        os.chdir(here)


def program() -> int:
    """`main` as a program: with less garbage collection, an allocator that keeps freed memory where that is faster
    (`--execution.allocator system` turns it off for a run), caches of libraries in a private folder, and threads of
    torch that wait shortly while other programs need the cores.

    torch alone makes half a million objects that live until the program ends. Scanning them repeatedly, and freeing
    each at the end, took a fifth of the time of `striate summary`.
    """
    ended: list[int] = []
    atexit.register(_leave_at_once, ended)  # functions are called in reverse order, so this one last
    keep_caches_private()  # before anything of matplotlib is imported
    _ignore_this_folder()
    gc.set_threshold(50_000, 20, 20)
    keep_by_default()
    for output in filter(None, (sys.stdout, sys.stderr)):  # an encoding may lack some letters
        cast("TextIOWrapper", output).reconfigure(errors="backslashreplace")
    allow_second()
    share_the_cores()
    try:
        code = main()
    finally:
        end_second()
    ended.append(code)
    return code


def _leave_at_once(ended: list[int]) -> None:
    """Exit with the code in `ended`, if there is one, without freeing memory."""
    if ended:
        with suppress(OSError, ValueError):  # Python reports an output that fails
            for output in filter(None, (sys.stdout, sys.stderr)):
                output.flush()
            os._exit(ended[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 done, 1 done with a bad verdict, 2 impossible, 130 interrupted, with the state saved."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    before = REMEDIES_AS_OPTIONS.set(True)
    try:
        with guarded_stdout():
            return _run(words)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has ended: exit without a message.
        _discard_stdout()
        return 0
    except LostOutput as error:
        _discard_stdout()
        print_note(f"error: standard output cannot be written: {error}")
        return 2
    finally:
        REMEDIES_AS_OPTIONS.reset(before)


def _discard_stdout() -> None:
    """Discard the buffered output, so that Python does not fail on it again when it ends."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    words = _expand_home(words)
    own = words[: words.index("--")] if "--" in words else words
    as_json = "--json" in own
    app = make_app(words if {"--help", "-h"} & set(words) else ())
    try:
        if not words:
            app.help_print([])
            return 0
        _refuse_empty(own)
        refuse_other_tools(app, VERBS, own)
        _refuse_undivided(words)
        result = app(join_fields(words), exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except (BrokenPipeError, LostOutput):
        raise
    except OtherProcessFailed:
        return _silent_exit(2)
    except StriateError as error:
        # All processes of a training get the same request; the first one prints what is wrong with it.
        return print_error(error, as_json) if error.process is not None or first_process() else _silent_exit(2)
    except CycloptsError as error:
        return print_error(_usage(error, words), as_json) if first_process() else _silent_exit(2)
    except KeyboardInterrupt as error:
        return print_interrupted(error, as_json) if first_process() else _silent_exit(130)
    except Exception as error:
        if os.environ.get("STRIATE_TRACEBACK"):
            raise
        return print_error(unforeseen(error), as_json)


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise UsageError for an empty word, such as the shell makes of "$FILE" where FILE is not set: as a path it would
    be the current folder."""
    for before, word in zip(("", *words), words, strict=False):
        assigned = re.fullmatch("(--[^=]+)= *", word)
        if assigned or not word.strip():
            option = assigned[1] if assigned else before if before.startswith("--") else ""
            verbs = words[: 2 if words[0] in _PARTS else 1] if words[0] in VERBS else ()
            where = " ".join(["striate", *filter(str.strip, verbs)])
            remedy = f"give {option} a value, or leave it out" if option else f"{where} --help"
            got = "empty text, such as a variable of the shell that is not set"
            raise UsageError(option or where, got, "a value" if option else "a name or a path", remedy)


def _expand_home(words: Sequence[str]) -> list[str]:
    """The words with `~` replaced by the home folder, also in `--out=~/runs`, where most shells leave it."""
    end = words.index("--") if "--" in words else len(words)  # the rest are arguments of a script
    home = r"(--[^=\s]+=)?(~(?:/.*)?)"
    parts = [re.fullmatch(home, word, re.DOTALL) for word in words[:end]]
    ours = [part and (part[1] or "") + os.path.expanduser(part[2]) for part in parts]  # noqa: PTH111
    return [new or word for new, word in zip(ours, words, strict=False)] + list(words[end:])


def _refuse_undivided(words: Sequence[str]) -> None:
    """Raise UsageError for a verb that several processes do not divide, so that each would do and write all of it; only
    trainings are divided."""
    if words[0] in VERBS and words[0] != "train" and (launch := launched()).several:
        got = several(launch.count, "process", "processes")
        raise UsageError(
            f"striate {words[0]}",
            got,
            "one process: only `striate train` uses several",
            shlex.join(["striate", *words]),
        )


def _silent_exit(code: int) -> int:
    """The exit code, after a pause in which another process prints what happened: the launcher ends all processes as
    soon as one has ended."""
    sleep(_PATIENCE)
    return code


def join_fields(words: Sequence[str]) -> list[str]:
    """Rewrite `--optim.lr 0.1` (any dotted option, also with `=`) as `--set optim.lr=0.1`; without a value, as true.

    A `true` or `false` after any option is its value, also of an option that needs none: `--baseline false`.
    """
    joined: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":  # the rest are arguments of a script
            return [*joined, word, *rest]
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in name:
            truth = word.startswith("--") and not equals and rest and rest[0].lower() in ("true", "false")
            joined.append(f"{word}={rest.pop(0)}" if truth else word)
            continue
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        joined += ["--set", f"{name}={value}"]
    return joined


def _usage(error: CycloptsError, words: list[str]) -> UsageError:
    verb = next((word for word in words if word in VERBS), "")
    second = (
        next((word for word in words[words.index(verb) + 1 :] if word in _PARTS[verb]), "") if verb in _PARTS else ""
    )
    where = " ".join(filter(None, ["striate", verb, second]))
    if isinstance(error, CoercionError) and error.token and error.token.keyword and error.target_type in (int, float):
        expected = "a whole number" if error.target_type is int else "a number"
        from striate.training.config_file import number_begun  # `striate --help` needs no configuration

        option, text = error.token.keyword, error.token.value
        number = number_begun(text, whole=error.target_type is int)
        return UsageError(option, repr(text), expected, f"{option} {number}" if number else f"{where} --help")
    text = " ".join(str(error).split())
    text = re.sub(r'^Command "[^"]+" parameter (--\S+) requires an argument\.$', r"no value for \1", text)
    text = re.sub(r'^Command "[^"]+" parameter (\S+) requires an argument\.$', r"no \1", text)
    text = re.sub(r"^Unused Tokens: \[(.*)\]\.$", r"too many arguments: \1", text)
    if isinstance(error, UnknownOptionError) and "--set" not in words:  # `join_fields` wrote it
        text = text.replace("--set", next((word for word in words if word.startswith("--") and "." in word), "--set"))
    if isinstance(error, UnknownOptionError) and (unused := _unused_field(where, text, words)):
        return unused
    if isinstance(error, MissingArgumentError) and text.startswith("no ") and (about := _about(error)):
        return UsageError(where, text, about, _corrected(text, words) or f"{where} --help")
    return UsageError(where, text, f"what `{where} --help` lists", _corrected(text, words) or f"{where} --help")


def _unused_field(where: str, text: str, words: list[str]) -> UsageError | None:
    """The error for an option of other verbs that is a field of the configuration; None for any other option."""
    from striate.training.config_fields import config_fields
    from striate.training.config_file import option_of

    fields = {option_of(name): field for name, field in config_fields().items()}
    found = re.search(r"Unknown option: (--[\w-]+)", text)
    if found is None or found[1] not in fields or found[1] == "--model":  # a network may be another argument
        return None
    option, rest = found[1], list(words)
    at = next(i for i, word in enumerate(rest) if word.partition("=")[0] == option)
    valued = "=" not in rest[at] and (
        fields[option].values.kind != "BOOL" or rest[at + 1 : at + 2] in (["true"], ["false"])
    )
    del rest[at : at + 1 + valued]
    return UsageError(
        option, f"a field that {where} does not use", f"what `{where} --help` lists", shlex.join(["striate", *rest])
    )


def _about(error: MissingArgumentError) -> str:
    """The first sentence of the help of a missing argument; empty where it has none."""
    name = re.escape(error.argument.name.lower()) if error.argument else ""
    found = re.search(rf"^{name}\n((?: {{4}}.*\n?)+)", inspect.getdoc(error.target) or "", re.MULTILINE)
    first = re.split(r"\.(?:\s|$)", " ".join(found[1].split()), maxsplit=1)[0] if found else ""
    return first[:1].lower() + first[1:]


def _corrected(text: str, words: list[str]) -> str | None:
    """The command with the word that a message suggests; None without a suggestion, or if it is not similar."""
    option = text.removeprefix("no value for ")
    value = words[words.index(option) + 1 :][:1] if option in words else []
    if value and re.match("-[^-]", value[0]):  # a value that looks like an option
        at = words.index(option)
        return shlex.join(["striate", *words[:at], f"{option}={value[0]}", *words[at + 2 :]])
    file = next((word for word in words if word.startswith("-") and word in text and Path(word).exists()), None)
    if file is not None:  # a file that looks like an option
        return shlex.join(["striate", *(f"./{word}" if word == file else word for word in words)])
    wrong = re.search(r'(?:Unknown (?:option:|command)|Invalid value) "?([^\s"]+?)"?(?:\.| for )', text)
    near = re.search(r'Did you mean "?([\w.-]+)"?\?', text)
    if wrong is None or near is None or not get_close_matches(wrong[1], [near[1]], cutoff=0.75):
        return None
    pattern = re.compile(re.escape(wrong[1]) + r"(?=$|=)")
    opposite = wrong[1].startswith("--no-")  # the remedy for --no-json is not --json
    kept = [word for word in words if not (opposite and pattern.match(word))]
    ours = [pattern.sub(near[1], word, count=1) if pattern.match(word) else word for word in kept]
    return shlex.join(["striate", *ours]) if ours != words else None
