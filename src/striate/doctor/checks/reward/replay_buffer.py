"""`reward.never-seen`, `reward.scale`, `reward.off-by-one`: are rewards there, of a usual scale, each with its step?

Looks into the script's replay buffer at the first step.
"""

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
from striate.doctor.setup.syntax import called, is_operation, last_name, nodes_in, receiver_of
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
    found = find_replay_buffer(evidence.source.names)
    rollout = _rollout(evidence.source.names) if found is None and _learns_large_values(evidence.source) else None
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
    """Whether the reward of a step is stored more than once, as for mirrored moves, or in an inner loop, as for several
    environments, so that neighbors in the buffer are not in the order of time."""
    for call in environment_steps(source):
        statement, loop = source.parent(call), next(iter(source.loops_of(call)), None)
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        results = {last_name(part) for part in target.elts[:2]} if isinstance(target, ast.Tuple) else set[str]()
        if loop is None or not results:
            continue
        nodes = list(ast.walk(loop))
        alternatives = {id(part) for node in nodes if isinstance(node, ast.If) for part in nodes_in(node.orelse)}
        stored = set[str]()
        for node in nodes:
            if not isinstance(node, ast.Call) or receiver_of(node) is None or id(node) in alternatives:
                continue
            if not results <= {last_name(part) for part in nodes_in(node.args)}:
                continue
            if ast.unparse(node.func) in stored or source.loops_of(node)[0] is not loop:
                return True
            stored.add(ast.unparse(node.func))
    return False


def _rollout(names: Mapping[str, Any]) -> tuple[NDArray[np.float64], str] | None:
    """The rewards of a rollout (T,) and their place, in one record or as variables, with as many observations; None
    where there is no rollout."""
    for name, value in (("", names), *names.items()):
        parts = value if isinstance(value, Mapping) else attributes(value)
        lengths = {str(key): _length(part) for key, part in parts.items()}
        of_observations = {length for key, length in lengths.items() if length and fits("observations", key)}
        for key, part in parts.items():
            if fits("rewards", str(key)) and lengths[str(key)] in of_observations:
                with suppress(ValueError, TypeError):
                    rewards = np.array([on_cpu(row) for row in part], np.float64).reshape(-1)
                    if len(rewards) >= _FEWEST:
                        return rewards, f"`{key}`{name and f' of `{name}`'} at the first step"
    return None


def _length(part: Any) -> int:
    return len(part) if isinstance(part, list) or (isinstance(part, torch.Tensor | np.ndarray) and part.ndim) else 0


def on_cpu(part: Any) -> Any:
    """A tensor as an array; any other value unchanged."""
    return part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else part


def _learns_large_values(source: ScriptSource) -> bool:
    """Whether the script computes an error with values beyond the usual size of rewards at the first step, so that
    nothing scales them down before."""
    compared = list[ast.expr]()
    for node in source.nodes():
        if isinstance(node, ast.Call) and (called(node) in _ERRORS or isinstance(source.value(node.func), _LOSSES)):
            compared += node.args
        if called(node) in ("pow", "square") or is_operation(node, ast.Pow):
            errors = (part for part in ast.walk(node) if is_operation(part, ast.Sub))
            compared += [side for part in errors for side in (part.left, part.right)]
    return any(_is_large(source, part) for part in compared)


def _is_large(source: ScriptSource, part: ast.expr) -> bool:
    while called(part) in _KEEPS and isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
        part = part.func.value
    value = source.value(part)
    return isinstance(value, torch.Tensor) and value.numel() > 1 and float(value.detach().abs().median()) > LARGEST


def _end_by_limit(experience: Experience) -> bool:
    """Whether most episodes without a marked end have the same length, in a buffer that does not mark truncation: a
    limit ends them, and values continue after it.

    Two episodes look like one if the second happens to begin with the observation with which the first one ends.
    Therefore, if no end is marked, each length has to be a multiple of the limit.
    """
    before, after = (part.reshape(len(part), -1) for part in (experience.observations, experience.following))
    ends = np.flatnonzero((before[1:] != after[:-1]).any(1) | experience.ends[:-1])
    lengths = np.diff(ends, prepend=-1)
    unmarked = lengths[~experience.ends[ends]]
    if experience.truncated is not None or not len(unmarked):
        return False
    limit = np.bincount(unmarked).argmax()
    usual = (unmarked == limit).mean() > _BY_LIMIT
    return bool(usual and (experience.ends.any() or (unmarked % limit == 0).all()))


def find_replay_buffer(names: Mapping[str, Any]) -> tuple[str, Experience] | None:
    """The name and content of the first buffer of transitions in the user's variables or their attributes; None where
    there is none."""
    for name, value in list(names.items()):
        if name.startswith("__") or isinstance(value, ModuleType):
            continue
        for path, part in ((name, value), *_attributes_below(name, value, _DEEPEST)):
            if isinstance(part, deque | list) and len(part) >= _FEWEST:
                experience = _of_rows(part)
            else:
                experience = _of_columns(attributes(part), part)
            if experience is not None:
                return path, experience
    return None


def _attributes_below(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, and those of objects of the user's own classes in them, each with its path."""
    for own, part in attributes(value).items():
        yield f"{name}.{own}", part
        if depth > 1 and written_by_user(type(part).__module__):
            yield from _attributes_below(f"{name}.{own}", part, depth - 1)


def attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object by name; empty for classes and modules."""
    return {} if isinstance(value, type | ModuleType) else dict(getattr(value, "__dict__", {}))


def _of_rows(rows: Sequence[Any]) -> Experience | None:
    """The transitions of tuples (observation, action, reward, next observation, done), named tuples or dictionaries, in
    the order of time; None where rows are something else."""
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
        experience = _experience(columns)
        if experience is None:
            return None
        return replace(experience, one_array=_share_memory(columns["observations"]))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _share_memory(observations: Sequence[Any]) -> bool:
    """Whether the first and the last observation are the same memory, rather than only equal."""
    first, last = (np.asarray(observations[place]) for place in (0, -1))
    return first.size > 1 and np.shares_memory(first, last)


def fits(what: str, name: str) -> bool:
    """Whether a name is usual for a part of transitions (`what`: a key of `_FIELDS`)."""
    following = bool(_FIELDS["following"].search(name.lower()))
    return following if what == "following" else not following and bool(_FIELDS[what].search(name.lower()))


def _of_columns(parts: Mapping[str, Any], value: Any) -> Experience | None:
    """The transitions of an object with one array for each part, filled up to a number in one of its attributes; None
    for other objects."""
    arrays = {
        k: v for k, v in parts.items() if hasattr(v, "shape") and getattr(v, "ndim", 0) >= 1 and len(v) >= _FEWEST
    }
    named = {what: next((k for k in arrays if fits(what, k)), None) for what in _FIELDS}
    if named["following"] is None or named["observations"] is None or named["rewards"] is None:
        return None
    most = len(arrays[str(named["rewards"])])
    counts = [parts[k] for k in _FILLED if isinstance(parts.get(k), int) and parts[k] < most]  # not the capacity
    size = most if getattr(value, "full", False) is True else max(counts, default=most)
    size = min(size, _filled_rows(arrays[named["observations"]], arrays[named["following"]]))
    if size < _FEWEST:
        return None
    try:
        return _experience({what: list(arrays[k][:size]) for what, k in named.items() if k is not None})
    except (ValueError, TypeError):
        return None


def _filled_rows(*arrays: Any) -> int:
    """The number of rows up to the last one that is not zero; nothing is stored after it yet."""
    rows = [np.flatnonzero(np.asarray(array).reshape(len(array), -1).any(axis=1)) for array in arrays]
    return 1 + max((int(numbers[-1]) for numbers in rows if len(numbers)), default=-1)


def _experience(columns: Mapping[str, list[Any]]) -> Experience | None:
    """Transitions from lists by part; None where a part is missing or there are too few."""
    if not {"observations", "following", "rewards"} <= set(columns):
        return None
    missing = np.array([row is None for row in columns["following"]])
    after = [b if a is None else a for a, b in zip(columns["following"], columns["observations"], strict=True)]
    before, following = (
        np.array([np.asarray(row).squeeze() for row in rows]) for rows in (columns["observations"], after)
    )
    rewards = np.array([np.asarray(row).item() for row in columns["rewards"]], np.float64)
    ends = missing | _ends(columns, len(missing))
    if before.shape != following.shape or before.dtype == object or len(before) < _FEWEST:
        return None
    return Experience(before.reshape(len(before), -1), following.reshape(len(before), -1), rewards, ends)


def _ends(columns: Mapping[str, list[Any]], count: int) -> NDArray[np.bool_]:
    """(T,) whether a transition ends its episode: a mark of the end is not 0, or a mark of continuation or a discount
    is 0."""
    name = next((what for what in ("terminated", "going_on") if what in columns), None)
    if name is None:
        return np.zeros(count, bool)
    marks = np.array([float(np.asarray(row).max()) for row in columns[name]])
    going_on = name == "going_on" or bool(((marks != 0) & (marks != 1)).any())
    ends: NDArray[np.bool_] = (marks == 0) == going_on
    return ends


REPLAY_BUFFER = Check(
    codes=("reward.off-by-one", "reward.never-seen", "reward.scale"),
    run=_run,
    of_source=True,
    of_rewards=True,
)
