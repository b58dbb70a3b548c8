"""From which checkpoint a run goes on: the last one, or the one before where the last is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from striate.errors import RunError, pasted
from striate.runs.checkpoint import check_archive
from striate.runs.directory import RunDirectory
from striate.runs.events import append_event, cut_torn_end, read_events
from striate.runs.files import explained

DAMAGED = ".damaged"
"""Ending of the name that a damaged checkpoint is given, so that the next one does not take its place."""


def take_up(run: RunDirectory, announce: Callable[[str], None]) -> Path | None:
    """Make a run that may have crashed ready to go on; the checkpoint to go on from, None where there is none yet.

    A torn last line of events.jsonl is cut off. A damaged last.pt is set aside for the one before it, which `announce`
    and events.jsonl are told. Only for the owner of the run. Raises RunError where every checkpoint is damaged.
    """
    cut = cut_torn_end(run)
    read_events(run)  # what is damaged otherwise is told before the training, not after it
    if cut:
        append_event(run, "torn-line", bytes=cut)
    there = [file for file in (run.last, run.previous) if file.exists()]
    damages: list[str] = []
    for file in there:
        try:
            check_archive(file)
        except RunError as error:
            damages.append(f"{file.name}: {error.got}")
            continue
        _set_aside(run, damages, there[: len(damages)], file, announce)
        return file
    if not there:
        return None
    anew = f"striate train --config {pasted(run.config)} --out {pasted(f'{run.path}-again')}"
    raise RunError(
        str(run.last.parent),
        f"no checkpoint that is whole ({'; '.join(damages)})",
        "last.pt or previous.pt as it was written",
        f"train it again from the start: {anew}",
    )


def _set_aside(
    run: RunDirectory, damages: list[str], damaged: list[Path], used: Path, announce: Callable[[str], None]
) -> None:
    for file, why in zip(damaged, damages, strict=True):
        aside = file.with_name(file.name + DAMAGED)
        announce(f"{why}; going on from the checkpoint before it, {used.name}; the damaged one is now {aside.name}")
        append_event(run, "damaged-checkpoint", file=file.name, reason=why, used=used.name)
        with explained(file):
            file.replace(aside)
