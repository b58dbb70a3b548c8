"""Lists of files, such as images and masks, whose entries at the same position belong to different samples."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import PurePath
from typing import Any

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, variable_of
from striate.records import Finding
from striate.wording import percent, several

_FEWEST, _SHARE = 8, 0.1
"""The fewest files of a list, and the least share of positions with files of different samples."""
_LISTING = ("listdir", "glob", "iglob", "rglob", "iterdir", "scandir")
"""Functions that return files in an arbitrary order."""


def mispaired_files(evidence: Evidence) -> Finding | None:
    """A finding for two lists of the same samples in different orders, as of `os.listdir`, that are used together."""
    if evidence.setup.source is None:
        return None
    for (one, files), (other, partners) in combinations(_lists_of_files(evidence), 2):
        names = _names_of_samples(files, partners)
        if names is None or not _used_together(evidence.source, one, other, alike=set(files) == set(partners)):
            continue
        apart = [place for place, (name, partner) in enumerate(zip(*names, strict=True)) if name != partner]
        if len(apart) < _SHARE * len(files):
            continue
        first = apart[0]
        return Finding(
            code="data.labels-random",
            severity="error",
            where=f"`{one}` and `{other}`",
            measured=f"at {len(apart)} of {several(len(files), 'position')} the two lists hold files of different "
            f"samples: first `{PurePath(files[first]).name}` and `{PurePath(partners[first]).name}`",
            threshold=f"files of different samples at {percent(_SHARE, 0)} of the positions of two lists that name "
            "the same samples",
            why="Inputs get the targets of others. `os.listdir` and `glob` list files in an arbitrary order.",
            remedy=f"sort both lists: `{one} = sorted({one})` and `{other} = sorted({other})`, or find each target by "
            "the name of its input",
        )
    return None


def _lists_of_files(evidence: Evidence) -> Iterator[tuple[str, list[str]]]:
    """Lists of paths among the script's variables and the attributes of its data set, each with its name."""
    data = getattr(evidence.setup.train, "dataset", None)
    held = vars(data) if type(data).__module__ == "__main__" and hasattr(data, "__dict__") else {}
    for name, value in [*evidence.source.names.items(), *((f"self.{key}", value) for key, value in held.items())]:
        if isinstance(value, list | tuple) and len(value) >= _FEWEST and _are_paths(value):
            yield name, [os.fspath(path) for path in value]


def _are_paths(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str | PurePath) and PurePath(value).suffix for value in values)


def _names_of_samples(files: list[str], partners: list[str]) -> tuple[list[Any], list[Any]] | None:
    """What names the sample of each file: its name without the suffix, or the numbers in it, where both lists have the
    same ones, each once; else None."""
    stems = [[PurePath(path).stem for path in paths] for paths in (files, partners)]
    for named in (stems, [[tuple(re.findall(r"\d+", stem)) for stem in part] for part in stems]):
        one, other = named
        if len(one) == len(other) == len(set(one)) and set(one) == set(other):
            return one, other
    return None


def _used_together(source: ScriptSource, one: str, other: str, *, alike: bool) -> bool:
    """Whether a call gets both lists, or one data set has both. Lists of equal entries (`alike`) must both come from a
    folder: one may be a shuffled copy of the other."""
    if alike and not {one, other} <= set(_listed(source)):
        return False
    if one.startswith("self.") and other.startswith("self."):
        return True
    return any({one, other} <= {variable_of(given) for given in call.args} for call in source.nodes(ast.Call))


def _listed(source: ScriptSource) -> Iterator[str]:
    """Variables and attributes that are assigned the files of a folder."""
    for node in source.nodes(ast.Assign):
        if any(called(part) in _LISTING for part in ast.walk(node.value)):
            yield ast.unparse(node.targets[0])
