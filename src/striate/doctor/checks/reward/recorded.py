"""`reward.never-seen`, `reward.scale`, `reward.off-by-one`: what the script's replay buffer holds at the first step."""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.environments.experience import Experience
from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.reward_code import environment_steps
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, last_name, receiver_of
from striate.records import Finding
from striate.tasks.control.doctor import LARGEST, experience_findings, reward_values
from striate.wording import several

_FEWEST, _MOST, _DEEPEST = 40, 20_000, 2
_BY_LIMIT = 0.6
_ERRORS, _LOSSES = ("mse_loss", "smooth_l1_loss", "huber_loss"), (nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss)
_KEEPS = ("view", "reshape", "flatten", "squeeze", "unsqueeze", "detach", "float", "to")
_FILLED = (
    "size",
    "count",
    "length",
    "n",
    "pos",
    "position",
    "ptr",
    "pointer",
    "idx",
    "index",
    "cursor",
    "head",
    "next",
)
_FIELDS = {
    "following": re.compile(r"^(next|new|following)_?|_next$|^(s2|obs2|s_prime|sp)$"),
    "observations": re.compile(r"^(obs\w*|states?|s|s1|frames?)$"),
    "rewards": re.compile(r"^(r|rew\w*)$"),
    "terminated": re.compile(r"^(d|dones?|term\w*|ends?|finished)$"),
    "going_on": re.compile(r"^(discounts?|gammas?|(not|non|un)_?(dones?|ends?|term\w*)|masks?|continues?|alive)$"),
}


def _run(evidence: Evidence) -> Iterator[Finding]:
    found = recorded(evidence.source.names)
    rollout = _rollout(evidence.source.names) if found is None and _learned_as_large(evidence.source) else None
    if rollout is not None:
        yield from (finding for finding in reward_values(*rollout) if finding.code == "reward.scale")
        return
    if found is None:
        raise NoEvidence(f"no replay buffer of {_FEWEST} transitions or more is found at the first step")
    name, experience = found
    if experience.one_array:
        yield Finding(
            code="reward.off-by-one",
            severity="error",
            where=f"replay buffer `{name}` at the first step",
            measured=f"all observations of {several(len(experience), 'transition')} in it are identical",
            threshold="two that differ",
            why="The environment returns one array that it overwrites again and again, and the buffer stores that "
            "array: each stored state is the newest one.",
            remedy="store copies: `observation.copy()`, where the environment returns it",
        )
        return
    in_order = not _stores_several(evidence.source)
    for finding in experience_findings(experience, f"replay buffer `{name}` at the first step"):
        if finding.code == "reward.off-by-one" and not in_order:
            continue
        if finding.code != "reward.terminal-lost" or not _end_by_limit(experience):
            yield finding


def _stores_several(source: ScriptSource) -> bool:
    """Whether the reward of a step is stored more than once, as of a move that is turned, too, or in a loop of its own,
    as of several environments: what stands behind each other in the buffer did not follow on each other."""
    for call, _ in environment_steps(source):
        led, loop = source.parent(call), next(iter(source.loops_of(call)), None)
        target = led.targets[0] if isinstance(led, ast.Assign) else None
        brought = {last_name(part) for part in target.elts[:2]} if isinstance(target, ast.Tuple) else set[str]()
        if loop is None or not brought:
            continue
        nodes = list(ast.walk(loop))
        instead = {
            id(part) for node in nodes if isinstance(node, ast.If) for one in node.orelse for part in ast.walk(one)
        }
        stored = set[str]()
        for node in nodes:
            if not isinstance(node, ast.Call) or receiver_of(node) is None or id(node) in instead:
                continue
            if not brought <= {last_name(part) for given in node.args for part in ast.walk(given)}:
                continue
            if ast.unparse(node.func) in stored or source.loops_of(node)[0] is not loop:
                return True
            stored.add(ast.unparse(node.func))
    return False


def _rollout(names: Mapping[str, Any]) -> tuple[NDArray[np.float64], str] | None:
    """The rewards of a rollout and their place: beside as many observations, in one record or as variables."""
    for name, value in (("", names), *names.items()):
        held = value if isinstance(value, Mapping) else attributes(value)
        lengths = {str(key): _length(part) for key, part in held.items()}
        seen = {length for key, length in lengths.items() if length and fits("observations", key)}
        for key, part in held.items():
            if fits("rewards", str(key)) and lengths[str(key)] in seen:
                with suppress(ValueError, TypeError):
                    rewards = np.array([on_cpu(row) for row in part], np.float64).reshape(-1)
                    if len(rewards) >= _FEWEST:
                        return rewards, f"`{key}`{name and f' of `{name}`'} at the first step"
    return None


def _length(part: Any) -> int:
    return len(part) if isinstance(part, list) or (isinstance(part, torch.Tensor | np.ndarray) and part.ndim) else 0


def on_cpu(part: Any) -> Any:
    """A tensor as an array; all else as it is."""
    return part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else part


def _learned_as_large(source: ScriptSource) -> bool:
    """Whether errors of values are taken from numbers beyond the usual size of rewards at the first step, too: nothing
    made them smaller on the way."""
    compared = list[ast.expr]()
    for node in source.nodes():
        if isinstance(node, ast.Call) and (called(node) in _ERRORS or isinstance(source.value(node.func), _LOSSES)):
            compared += node.args
        if called(node) in ("pow", "square") or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)):
            apart = (part for part in ast.walk(node) if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub))
            compared += [side for part in apart for side in (part.left, part.right)]
    return any(_is_large(source, part) for part in compared)


def _is_large(source: ScriptSource, part: ast.expr) -> bool:
    while called(part) in _KEEPS and isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
        part = part.func.value
    value = source.value(part)
    return isinstance(value, torch.Tensor) and value.numel() > 1 and float(value.detach().abs().median()) > LARGEST


def _end_by_limit(found: Experience) -> bool:
    """Whether most episodes that end unmarked, in a buffer that does not say which were cut off, are as long as one
    another: a limit ended them, and values go on behind it. Where a new episode happens to begin where the last one
    ended, the two look like one: where no end is marked, each length has to be a multiple of the limit."""
    seen, after = (part.reshape(len(part), -1) for part in (found.observations, found.following))
    ends = np.flatnonzero((seen[1:] != after[:-1]).any(1) | found.ends[:-1])
    lengths = np.diff(ends, prepend=-1)
    unmarked = lengths[~found.ends[ends]]
    if found.truncated is not None or not len(unmarked):
        return False
    limit = np.bincount(unmarked).argmax()
    usual = (unmarked == limit).mean() > _BY_LIMIT
    return bool(usual and (found.ends.any() or (unmarked % limit == 0).all()))


def recorded(names: Mapping[str, Any]) -> tuple[str, Experience] | None:
    """The first buffer of transitions among the user's variables and what they hold, by its name."""
    for name, value in list(names.items()):
        if name.startswith("__") or isinstance(value, ModuleType):
            continue
        for told, part in ((name, value), *_held(name, value, _DEEPEST)):
            if isinstance(part, deque | list) and len(part) >= _FEWEST:
                made = _of_rows(part)
            else:
                made = _of_columns(attributes(part), part)
            if made is not None:
                return told, made
    return None


def _held(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """What an object holds, and what objects of the user's own hold that are in it."""
    for own, part in attributes(value).items():
        yield f"{name}.{own}", part
        if depth > 1 and written_by_user(type(part).__module__):
            yield from _held(f"{name}.{own}", part, depth - 1)


def attributes(value: Any) -> dict[str, Any]:
    """What an object holds by names."""
    return {} if isinstance(value, type | ModuleType) else dict(getattr(value, "__dict__", {}))


def _of_rows(rows: Sequence[Any]) -> Experience | None:
    """Of tuples (observation, action, reward, next observation, done) or by their names, in the order of time."""
    last = list(rows)[-_MOST:]
    first = last[0]
    fields = getattr(first, "_fields", None)
    if fields is None and isinstance(first, Mapping):
        fields = tuple(first)
    try:
        if fields is not None:
            named = {what: next((f for f in fields if fits(what, str(f))), None) for what in _FIELDS}
            columns = {
                what: [row[f] if isinstance(row, Mapping) else getattr(row, f) for row in last]
                for what, f in named.items()
                if f is not None
            }
        elif isinstance(first, tuple | list) and len(first) == 5:
            places = {"observations": 0, "rewards": 2, "following": 3, "terminated": 4}
            columns = {what: [row[place] for row in last] for what, place in places.items()}
        else:
            return None
        made = _made(columns)
        return None if made is None else replace(made, one_array=_is_one_array(columns["observations"]))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _is_one_array(observations: Sequence[Any]) -> bool:
    """Whether all have the same numbers in the same memory: where nothing happens they are equal, too."""
    first, last = (np.asarray(observations[place]) for place in (0, -1))
    return first.size > 1 and np.shares_memory(first, last)


def fits(what: str, name: str) -> bool:
    """Whether something of this kind may be called so."""
    following = bool(_FIELDS["following"].search(name.lower()))
    return following if what == "following" else not following and bool(_FIELDS[what].search(name.lower()))


def _of_columns(held: Mapping[str, Any], value: Any) -> Experience | None:
    """Of an object with an array for each part, filled up to a number that it holds."""
    arrays = {k: v for k, v in held.items() if hasattr(v, "shape") and getattr(v, "ndim", 0) >= 1 and len(v) >= _FEWEST}
    named = {what: next((k for k in arrays if fits(what, k)), None) for what in _FIELDS}
    if named["following"] is None or named["observations"] is None or named["rewards"] is None:
        return None
    most = len(arrays[str(named["rewards"])])
    counts = [held[k] for k in _FILLED if isinstance(held.get(k), int) and held[k] < most]  # not the capacity
    size = most if getattr(value, "full", False) is True else max(counts, default=most)
    size = min(size, _written(arrays[named["observations"]], arrays[named["following"]]))
    if size < _FEWEST:
        return None
    try:
        return _made({what: list(arrays[k][:size]) for what, k in named.items() if k is not None})
    except (ValueError, TypeError):
        return None


def _written(*arrays: Any) -> int:
    """How many rows there are up to the last one that is not zero: behind it nothing was stored yet."""
    rows = [np.flatnonzero(np.asarray(array).reshape(len(array), -1).any(axis=1)) for array in arrays]
    return 1 + max((int(numbers[-1]) for numbers in rows if len(numbers)), default=-1)


def _made(columns: Mapping[str, list[Any]]) -> Experience | None:
    if not {"observations", "following", "rewards"} <= set(columns):
        return None
    gone = np.array([row is None for row in columns["following"]])
    after = [b if a is None else a for a, b in zip(columns["following"], columns["observations"], strict=True)]
    seen, following = (
        np.array([np.asarray(row).squeeze() for row in rows]) for rows in (columns["observations"], after)
    )
    rewards = np.array([np.asarray(row).item() for row in columns["rewards"]], np.float64)
    ends = gone | _ends(columns, len(gone))
    if seen.shape != following.shape or seen.dtype == object or len(seen) < _FEWEST:
        return None
    return Experience(seen.reshape(len(seen), -1), following.reshape(len(seen), -1), rewards, ends)


def _ends(columns: Mapping[str, list[Any]], count: int) -> NDArray[np.bool_]:
    """(T,) whether nothing follows: where a mark of that is not 0, or one that something does, or a discount, is 0."""
    name = next((what for what in ("terminated", "going_on") if what in columns), None)
    if name is None:
        return np.zeros(count, bool)
    marks = np.array([float(np.asarray(row).max()) for row in columns[name]])
    going_on = name == "going_on" or bool(((marks != 0) & (marks != 1)).any())
    ends: NDArray[np.bool_] = (marks == 0) == going_on
    return ends


RECORDED = Check(
    codes=("reward.off-by-one", "reward.never-seen", "reward.scale"),
    question="Are there rewards, of a usual scale, and stored with the step that they belong to?",
    run=_run,
    of_source=True,
    of_rewards=True,
)
