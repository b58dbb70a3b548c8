"""Verify a run: check its files, and replay some of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from striate.errors import RunError, UsageError, pasted
from striate.models.build import module_of_run
from striate.models.preserved_state import usual_torch
from striate.models.trusted_code import given
from striate.runs.checkpoint import load_checkpoint, without_checkpoint
from striate.runs.directory import RunDirectory, RunPath, open_run, path_of_run
from striate.runs.environment import describe_environment, read_environment
from striate.runs.lock import owner
from striate.runs.plain_files import is_there
from striate.training.code_fields import ARGUMENTS, given_arguments
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, get_field
from striate.training.execution import execution_settings, memory_explained
from striate.training.prepare import prepare
from striate.training.processes.fixed_parts import in_fixed_parts
from striate.training.rewards.player import learned_from_rewards
from striate.training.verification.files import FileCheck, check_files, read_last
from striate.training.verification.replay import RunReplay, replay
from striate.wording import listed

_MAY_CHANGE_BITS = ("striate", "python", "torch", "numpy", "processor", "cpu_capability", "cuda")
"""Fields of env.json that may change results bit for bit."""


@dataclass(frozen=True)
class Verification:
    """What `striate verify` found in a run."""

    path: Path
    """The folder of the run."""
    verdict: Literal["agree", "differ", "damaged", "intact"]
    """`agree`: the replayed steps are bit-identical; `differ`: they are not; `damaged`: a file is; `intact`: all files
    are intact, and the steps cannot be replayed."""
    files: tuple[FileCheck, ...]
    """The check of each file."""
    replay: RunReplay | None = None
    """None where files are damaged, or the steps cannot be replayed."""
    replayed_from: str = ""
    """The state that the replay starts from, in words; empty without a replay."""
    changed: tuple[str, ...] = ()
    """What of machine and versions has changed since the run, where the replay differs."""
    not_replayed: str = ""
    """Why the steps cannot be replayed; empty where they can."""

    def to_json(self) -> dict[str, Any]:
        """The document of `striate verify --json`."""
        return {
            "run": str(self.path),
            "verdict": self.verdict,
            "files": [asdict(check) for check in self.files],
            "replay": None if self.replay is None else {"from": self.replayed_from, **self.replay.to_json()},
            "not_replayed": self.not_replayed or None,
            "changed": list(self.changed),
        }


@usual_torch()
def verify(
    path: RunPath,
    *,
    steps: int | None = None,
    module: nn.Module | Callable[..., nn.Module] | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Check every file of a run; then replay the steps between its last two checkpoints (from the beginning if there is
    only one; at most `steps`), and compare losses, weights and everything else that a resumed run depends on.

    Of a game, and of steps that several processes computed, only the files are checked. Writes nothing into the run.
    `module` for a run of a network made in Python. Raises RunError for a run without a checkpoint, or one that is being
    trained; DataError where the data have changed.
    """
    if steps is not None and steps < 1:
        raise UsageError("--steps", str(steps), "1 or more", "--steps 100, or leave it out")
    run = open_run(path_of_run(path))
    _refuse_unverifiable(run)
    config = config_from_yaml(run.config)
    module = module_of_run(config.model.name, module)
    files = check_files(run)
    last = read_last(run)
    if last is None or not all(check.intact for check in files):
        return Verification(run.path, "damaged", files)
    if learned_from_rewards(last):
        return Verification(run.path, "intact", files, not_replayed="a run saves no losses of the steps of a game")
    if "trace" not in last:
        got = "a checkpoint of an earlier version, without the losses of its steps"
        raise RunError(
            str(run.last), got, "a checkpoint of this version", f"striate train --config {pasted(run.config)}"
        )
    if (config.execution.processes or 1) > 1 and not in_fixed_parts(config):
        why = f"{config.execution.processes} processes computed the steps; a single one sums in another order"
        return Verification(run.path, "intact", files, not_replayed=why)
    if missing := _missing_arguments(config, module):
        why = f"{listed(missing)} given in Python, not in a file, would be needed again"
        return Verification(run.path, "intact", files, not_replayed=why)
    checkpoint = run.previous if last["trace"]["begin"] and is_there(run.previous) else None
    done = _replay(run, config, module, checkpoint, last, steps, announce)
    changed = _changed(run) if done.first_difference is not None else ()
    start = "the beginning" if checkpoint is None else f"checkpoints/{checkpoint.name}"
    return Verification(run.path, "agree" if done.first_difference is None else "differ", files, done, start, changed)


def _replay(
    run: RunDirectory,
    config: Config,
    module: nn.Module | None,
    checkpoint: Path | None,
    last: dict[str, Any],
    steps: int | None,
    announce: Callable[[str], None],
) -> RunReplay:
    with memory_explained(config):
        prepared = prepare(config, module, run=run, checkpoint=checkpoint, announce=announce)
        if checkpoint is not None:
            prepared.state.restore(load_checkpoint(checkpoint, prepared.device))
        if prepared.state.step != last["trace"]["begin"]:
            got = (
                f"a checkpoint of step {prepared.state.step:,}; last.pt continues from step {last['trace']['begin']:,}"
            )
            raise RunError(str(checkpoint or run.path), got, "the checkpoint before last.pt", _WITHOUT)
        with execution_settings(prepared.config):
            return replay(prepared, last, steps)


def _missing_arguments(config: Config, module: nn.Module | None) -> list[str]:
    """The arguments of the training that were given in Python and are not known in this process."""
    names = {"module": "model.name", **{argument: field for field, argument in ARGUMENTS.items()}}
    return [
        argument
        for argument in given_arguments(config)
        if argument == "data"
        or (
            given(str(get_field(config, names[argument]))) is None and not (argument == "module" and module is not None)
        )
    ]


_WITHOUT = "no step can be replayed; the files were checked and are intact"


def _refuse_unverifiable(run: RunDirectory) -> None:
    if (name := owner(run.path)) is not None:
        remedy = f"wait for it, or end it; then: striate verify {pasted(run.path)}"
        raise RunError(str(run.path), f"a run that {name} is training", "a run that no process writes to", remedy)
    if not any(file.exists() for file in (run.last, run.previous, run.best)):
        raise without_checkpoint(run, run.last)


def _changed(run: RunDirectory) -> tuple[str, ...]:
    """What of machine and versions has changed since the run, in words."""
    then = read_environment(run.environment)
    described = describe_environment()
    now = described | described["packages"]
    return tuple(
        f"{name} was {then[name]} and is {now.get(name)}"
        for name in _MAY_CHANGE_BITS
        if name in then and then[name] != now.get(name)
    )
