"""A run that goes on looks at all of its files first: what follows from data and machine is made again, a configuration
that was changed is refused, and nothing of it waits until all steps are trained."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from saved_runs import assert_same_run, at_step, config_for, save_always, train_quietly

from striate.api import resume, verify
from striate.cli import main
from striate.errors import RunError
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.runs.directory import RunDirectory
from striate.runs.events import read_events
from striate.training import first_files
from striate.training.config_file import config_from_yaml
from striate.training.first_files import change_config, refuse_changed_config
from striate.training.verification.files import check_files


class Killed(Exception):
    """Ends a training as a kill would."""


def kill() -> None:
    raise Killed


@pytest.fixture(scope="module")
def whole(same_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train_quietly(config_for(same_photos), run)
    return run


@pytest.fixture(scope="module")
def killed(same_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was killed in its second epoch, with checkpoints."""
    run = tmp_path_factory.mktemp("runs") / "killed"
    with pytest.MonkeyPatch.context() as patch:
        save_always(patch)
        at_step(patch, 7, kill)
        with pytest.raises(Killed):
            train_quietly(config_for(same_photos), run)
    return run


@pytest.fixture
def run(killed: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(killed, "run")
    return Path("run")


def as_of_the_version_before(run: Path) -> None:
    """Without the configuration in checkpoints and its digest in events.jsonl."""
    for file in (run / "checkpoints").iterdir():
        content = load_checkpoint(file)
        content.pop("config", None)
        save_checkpoint(file, content)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    for event in events:
        event.get("sha256", {}).pop("config.yaml", None)
    (run / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))


@pytest.mark.each_nth(7)
@pytest.mark.parametrize("how", ["cut", "zeroed", "removed"])
@pytest.mark.parametrize("name", ["split.csv", "seen.txt", "classes.txt", "env.json"])
def test_a_file_that_follows_from_the_data_is_made_again(
    run: Path, whole: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (run / name).read_bytes()
    if how == "removed":
        (run / name).unlink()
    else:
        (run / name).write_bytes(content[: len(content) // 2] if how == "cut" else b"\0" * len(content))
    assert {check.name for check in verify(run).files if not check.intact} == {name}
    assert main(["train", "--resume", "run"]) == 0
    assert f"{name} had changed since this run wrote it, and was written again" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (run / name).read_bytes() == content
    assert [event["file"] for event in read_events(RunDirectory(run)) if event["event"] == "made-again"] == [name]
    assert verify(run).verdict == "agree"
    assert_same_run(whole, run)


def test_a_file_that_now_would_be_another_is_refused_and_left_alone(run: Path, monkeypatch) -> None:
    (run / "seen.txt").write_text("cut")
    monkeypatch.setattr("striate.training.first_files._seen", lambda _: "another\n")
    events = (run / "events.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"seen\.txt") as caught:
        resume(run, quiet=True)
    assert "--config run/config.yaml --out run-again" in caught.value.remedy
    assert (run / "seen.txt").read_text() == "cut"
    assert (run / "events.jsonl").read_bytes() == events


def change(run: Path, old: str, new: str) -> None:
    text = (run / "config.yaml").read_text()
    assert f"\n{old}\n" in text
    (run / "config.yaml").write_text(text.replace(f"\n{old}\n", f"\n{new}\n"))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed: 0", "seed: 1", "seed is 1, and was 0"),
        ("  nesterov: true", "  nesterov: false", "optim.nesterov is False, and was True"),
        ("  threads: 1", "  threads: 2", "execution.threads is 2, and was 1"),
    ],
)
def test_a_configuration_that_was_changed_is_refused_with_the_field(
    run: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run, old, new)
    last, events = run / "checkpoints/last.pt", run / "events.jsonl"
    whole, lines = last.read_bytes(), events.read_bytes()
    for damage, torn in ((b"", b""), (b"\0" * 300, b'{"event": "ep')):  # it is refused before anything is put right
        last.write_bytes(whole[: len(whole) - len(damage)] + damage)
        events.write_bytes(lines + torn)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
        assert main(["train", "--resume", "run"]) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert said in told
        assert "striate train --resume run" in told
        assert {path: path.read_bytes() for path in run.rglob("*") if path in before} == before
    last.write_bytes(whole)
    events.write_bytes(lines)
    found = verify(run)
    assert found.verdict == "damaged"
    assert {check.name: said in check.message for check in found.files if not check.intact} == {"config.yaml": True}


@pytest.mark.slow
def test_a_configuration_put_back_goes_on_and_comments_change_nothing(run: Path, whole: Path) -> None:
    change(run, "seed: 0", "seed: 1")
    with pytest.raises(RunError):
        resume(run, quiet=True)
    change(run, "seed: 1", "# as it was\nseed: 0")
    resume(run, quiet=True)
    assert_same_run(whole, run)


@pytest.mark.slow
def test_data_that_were_moved_are_named_where_they_are_now(run: Path, whole: Path, same_photos: Path) -> None:
    shutil.copytree(same_photos, "moved")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(same_photos), str(Path("moved").absolute())))
    assert verify(run).verdict == "agree"
    resume(run, quiet=True)
    assert_same_run(whole, run)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_knows_its_configuration_too(same_photos: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 1, kill)
        with pytest.raises(Killed):
            train_quietly(config_for(same_photos), Path("run"))
    change(Path("run"), "seed: 0", "seed: 1")
    with pytest.raises(RunError, match=r"config\.yaml"):
        resume("run", quiet=True)


def test_a_run_of_the_version_before_goes_on(run: Path, whole: Path) -> None:
    as_of_the_version_before(run)
    resume(run, quiet=True)
    assert_same_run(whole, run)
    assert verify(run).verdict == "agree"


@pytest.mark.parametrize("dies", [False, True], ids=["written", "killed between"])
def test_a_change_that_the_run_wrote_itself_is_none(run: Path, monkeypatch: pytest.MonkeyPatch, dies: bool) -> None:
    config, opened = config_from_yaml(run / "config.yaml"), RunDirectory(run)
    smaller = replace(config, execution=replace(config.execution, micro_batch_from=((7, 4),)))
    if dies:  # after events.jsonl knows of it, before config.yaml does
        monkeypatch.setattr(first_files, "write_text", lambda *_: kill())
    with suppress(Killed):
        change_config(opened, smaller)
    assert (config_from_yaml(run / "config.yaml") == config) is dies
    refuse_changed_config(opened, opened.last)
    refuse_changed_config(opened, None)
    assert {check.name for check in check_files(opened) if not check.intact} == set()
