"""The fields that may name the user's own code (`file.py:name`), besides the network's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from striate.errors import ConfigError, RunError, pasted
from striate.models.from_file import names_file, refuse_changed_file, resolve_name, source_digest
from striate.models.trusted_code import is_given, refuse_unnamed_code, trusted_code
from striate.runs.directory import RunDirectory, open_run
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, get_field, option_of, with_fields

NAMES_OF_CODE = {
    "task.name": "a task",
    "task.loss": "a loss",
    "optim.name": "an optimizer",
    "schedule.name": "a schedule",
    "augment.transform": "a transform",
}
"""Field to what it names."""
ARGUMENTS = {
    "task.name": "task",
    "task.loss": "loss",
    "optim.name": "optimizer",
    "schedule.name": "scheduler",
    "augment.transform": "transform",
}
"""Field to the argument in Python."""


def with_code(config: Config) -> Config:
    """The configuration with absolute paths of code and the digests of its files. Raises RunError for code that the
    user has not named or that was given to another process, ConfigError for a file that has changed since the run
    started."""
    named = {name: get_field(config, name) for name in NAMES_OF_CODE}
    for field, value in named.items():
        if isinstance(value, str) and is_given(value):
            trusted_code(value, NAMES_OF_CODE[field], ARGUMENTS[field])
    files = {name: value for name, value in named.items() if isinstance(value, str) and names_file(value)}
    if not files:
        return replace(config, code=()) if config.code else config
    known, code = dict(config.code), {}
    for field, name in files.items():
        refuse_unnamed_code(name, NAMES_OF_CODE[field], option_of(field))
        files[field] = whole = resolve_name(name)
        code[whole] = source_digest(whole) or ""
        if known.get(whole, code[whole]) != code[whole]:
            raise ConfigError(
                option_of(field),
                f"{whole}, whose file has changed since the run was started",
                f"the file with the SHA-256 {known[whole][:12]}…",
                "restore the old file, or train again with --set code=[]",
            )
    return with_fields(config, {**files, "code": tuple(code.items())})


def refuse_changed_network(path: Path, name: str, remedy: str = "") -> None:
    """Raise ModelError where the file of the network of the run or checkpoint at `path` has changed; a checkpoint alone
    cannot be checked. `remedy`: by default, to train again."""
    try:
        config = open_run(path).config
    except RunError:
        return
    anew = f"train again: striate train --config {pasted(config)} --model.digest null"
    refuse_changed_file(name, config_from_yaml(config).model.digest, remedy or anew)


def given_arguments(config: Config) -> tuple[str, ...]:
    """The arguments in Python whose values no file names."""
    arguments = {"data.source": "data", "model.name": "module", **ARGUMENTS}
    values = {argument: get_field(config, field) for field, argument in arguments.items()}
    return tuple(argument for argument, value in values.items() if isinstance(value, str) and is_given(value))


def how_to_resume(run: Path, config: Config) -> str:
    """What resumes a run: a command, or a call in Python with the arguments that no file names."""
    given = [f"{argument}=…" for argument in given_arguments(config)]
    if not given:
        return f"striate train --resume {pasted(run)}"
    return f"striate.api.resume({', '.join([repr(str(run)), *given])})"


def how_to_repeat(run: RunDirectory, config: Config) -> str:
    """What repeats a run: a command, or a call in Python with the arguments that no file names."""
    given = [f"{argument}=…".replace("module", "model") for argument in given_arguments(config)]
    out = f"{run.path}-again"
    if not given:
        return f"striate train --config {pasted(run.config)} --out {pasted(out)}"
    return f"striate.train({', '.join([*given, f'config={str(run.config)!r}', f'out={out!r}'])})"


def how_to_train_longer(run: RunDirectory, config: Config, budget: str) -> str | None:
    """The command that repeats a run with another budget (`--epochs 20`); None where it needs arguments that no file
    names."""
    if given_arguments(config):
        return None
    return f"striate train --config {pasted(run.config)} {budget} --out {pasted(f'{run.path}-longer')}"
