"""The files of a run that are known before its first step: written once, and checked whenever the run is resumed.

config.yaml defines the run; the checkpoint holds the configuration that it was written with. The other files follow
from the data, the network and the machine; their digests are in events.jsonl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from striate.account.signal.trace import signal_to_json
from striate.errors import RunError, pasted
from striate.models.trained_modules import runs_of_module
from striate.runs.checkpoint import load_checkpoint, recover_run
from striate.runs.directory import RunDirectory, csv_text, open_run, read_learned, read_seen, seen_text
from striate.runs.environment import describe_environment
from striate.runs.events import append_event, event_line, file_digest, note_files, noted_files, read_events, text_digest
from striate.runs.files import append_text, json_text, write_json, write_text
from striate.runs.plain_files import is_there
from striate.training.budget.forecast import write_forecast
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, config_to_dict, config_to_yaml, field_names
from striate.training.prepare import Prepared

_PLACES = ("data.source", "data.store", "data.packs", "save_seconds", "decided")
"""Fields that may change between two checkpoints: where the same data lie (their fingerprint is compared), how often
the run is saved, and which fields were decided."""
_SHOWN = 3  # fields in a message


def write_first_files(run: RunDirectory, prepared: Prepared, announce: Callable[[str], None] = lambda _: None) -> None:
    """Write the files that are known before the first step, config.yaml first. Intact files stay, so that a run that
    was killed here can be resumed. A missing or damaged file is made again; `announce` and events.jsonl get a line
    about it. Raises RunError, also where the file made again differs from the original."""
    if not is_there(run.config):
        write_text(run.config, config_to_yaml(prepared.config))
    noted = noted_files(run)
    made = {
        file: _made_again(run, file, text, noted) for file, text in _fixed(run, prepared) if not _is_intact(file, noted)
    }
    if not is_there(run.events) or not run.events.stat().st_size:
        notes = [event_line("note", text=note) for note in prepared.notes]
        findings = [event_line("finding", **finding.to_json()) for finding in prepared.findings]
        append_text(run.events, "".join(notes + findings))  # all or none
    for file, text in made.items():
        if file.name in noted:
            announce(f"{file} had changed since this run wrote it, and was written again")
            append_event(run, "made-again", file=file.name)
        write_text(file, text)
    files = [run.config, *(file for file, _ in _fixed(run, prepared))]
    note_files(run, [file for file in files if file.name not in noted or file in made])
    write_forecast(run, prepared.forecast, prepared.pace)
    if prepared.plan is not None and not is_there(run.plan):
        write_json(run.plan, prepared.plan.to_json())
    if prepared.signal and not is_there(run.signal):
        write_json(run.signal, {"start": signal_to_json(prepared.signal)})


def _fixed(run: RunDirectory, prepared: Prepared) -> Iterator[tuple[Path, Callable[[], str]]]:
    """The files that never change, each with a function that makes its text."""
    yield run.classes, lambda: "".join(f"{name}\n" for name in prepared.data.classes)
    if words := prepared.task.words:
        yield run.words, lambda: "".join(f"{word}\n" for word in words)
    rows = prepared.data.rows
    yield run.split, lambda: csv_text(["path", "label", "split"], ((row.path, row.label, row.split) for row in rows))
    yield run.seen, lambda: _seen(prepared)
    yield run.environment, lambda: json_text(describe_environment())


def _is_intact(file: Path, noted: Mapping[str, str]) -> bool:
    """Whether the file exists and, if its digest is known, is unchanged."""
    return is_there(file) and (file.name not in noted or file_digest(file) == noted[file.name])


def _made_again(run: RunDirectory, file: Path, text: Callable[[], str], noted: Mapping[str, str]) -> str:
    """The text of a file that is missing or damaged. Raises RunError where it differs from the original."""
    made = text()
    if file == run.environment or noted.get(file.name) in (None, text_digest(made)):
        return made
    raise RunError(
        str(file),
        "it has changed, and data and weights now give another file",
        "the original file, whose SHA-256 is in events.jsonl",
        f"restore it from a copy; or {_anew(run)}",
    )


def _seen(prepared: Prepared) -> str:
    """Digests of the samples that the network learns from or is chosen by, and of those that its initial weights have
    seen: in their own run, and in all runs before it."""
    contents, weights = prepared.data.contents, prepared.config.model.pretrained
    behind = [*([] if weights is None else [Path(weights)]), *runs_of_module(prepared.state.module)]
    learned, chosen = list(contents["train"]), list(contents["val"])
    learned_before = seen_before = frozenset[str]()
    for path in behind:
        with suppress(RunError):  # a file of weights without a run
            parent = open_run(path)
            learned_before |= read_learned(parent)
            seen_before |= frozenset(read_seen(parent))
    learned += sorted(learned_before.difference(learned))
    chosen += sorted(seen_before.difference(chosen))
    known = frozenset(learned)
    return seen_text(learned, [digest for digest in chosen if digest not in known])


def change_config(run: RunDirectory, config: Config) -> None:
    """Write config.yaml anew during training: first its digest into events.jsonl, then the file, then checkpoints."""
    text = config_to_yaml(config)
    append_event(run, "files", sha256={run.config.name: text_digest(text)})
    write_text(run.config, text)


def recover_unchanged_run(run: RunDirectory, announce: Callable[[str], None]) -> Path | None:
    """`recover_run`, if config.yaml is as the run wrote it; otherwise nothing changes and RunError is raised."""
    return recover_run(run, announce, lambda checkpoint: refuse_changed_config(run, checkpoint))


def refuse_changed_config(run: RunDirectory, checkpoint: Path | None) -> None:
    """Raise RunError where config.yaml is not as the run wrote it, since the resumed training would be another one.
    `checkpoint`: the one to resume from, if any. Runs of earlier versions cannot be checked."""
    saved = None if checkpoint is None else load_checkpoint(checkpoint).get("config")
    changes = config_changes(run, saved)
    if changes is None:
        return
    raise RunError(
        str(run.config),
        f"changed since the run was interrupted: {changes}",
        "the original configuration of the run",
        f"restore the values, then: striate train --resume {pasted(run.path)}; or {_anew(run)}",
    )


def config_changes(run: RunDirectory, saved: object) -> str | None:
    """The fields of config.yaml that differ from what the run wrote, in words; None where none does. `saved`: the
    configuration in the checkpoint, if it has one. Raises ConfigError."""
    written = [e["sha256"].get(run.config.name) for e in read_events(run) if isinstance(e.get("sha256"), dict)]
    digests = list(filter(None, written))
    if file_digest(run.config) in (digests[-1:] if isinstance(saved, Mapping) else digests):
        return None
    if not isinstance(saved, Mapping):
        return "it is not the file that the run wrote" if digests else None
    now = config_to_dict(config_from_yaml(run.config))
    changed = [name for name in field_names() if name not in _PLACES and not _same(now, saved, name.split("."))]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    shown = (f"{name} is {_value(now, name)}, and was {_value(saved, name)}" for name in changed[:_SHOWN])
    return f"{'; '.join(shown)}{more}" if changed else None


def _same(now: Any, then: Any, path: list[str]) -> bool:
    """Whether a field has the same value, or is unknown to one of the two."""
    for part in path:
        if not isinstance(now, Mapping) or not isinstance(then, Mapping) or part not in then:
            return True
        now, then = now[part], then[part]
    return repr(now) == repr(then)  # a checkpoint from elsewhere may hold anything


def _value(values: Any, name: str) -> str:
    for part in name.split("."):
        values = values[part]
    return str(values)[:60]


def _anew(run: RunDirectory) -> str:
    return f"train again: striate train --config {pasted(run.config)} --out {pasted(f'{run.path}-again')}"
