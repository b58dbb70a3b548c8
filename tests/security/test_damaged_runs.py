"""Every file of a finished run damaged in turn × every verb that reads a run: the answer is that of the whole run, a
refusal, or an answer that names the file. It is never waited for, nothing is written where a link leads, and nothing is
wrong without a word."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from striate.cli.main import main
from striate.errors import RunError, StriateError
from striate.lab.training.training_process import Snapshots, follow
from striate.runs.directory import RunDirectory
from striate.runs.files import write_text
from striate.runs.lock import owned
from striate.runs.watching import read_snapshot, request_snapshots, write_snapshot
from striate.studies.sweep.journal import Journal, locked

_PATIENCE = 60.0  # seconds; what waits for a pipe waits for ever
FILES = [
    *("config.yaml", "metrics.csv", "metrics.json", "classes.txt", "split.csv", "seen.txt", "env.json", "events.jsonl"),
    *("evaluation.json", "forecast.json", "signal.json", "report.html", ".lock", "plots/curves.png"),
    *("predictions/test.npz", "predictions/val.npz"),
    *("checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt"),
]
FOLDERS = ["checkpoints", "plots", "predictions"]


class Waited(BaseException):
    """A verb took longer than anything here takes."""


def _socket(path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as made:  # names of sockets are short
        made.bind(f"{short}/s")
        os.rename(f"{short}/s", path)  # noqa: PTH104


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        make(path)

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": _cut,
    "zeroed": _zeroed,
    "flipped": _flipped,
    "emptied": lambda path: _put(path, b""),
    "removed": _instead(lambda _: None),
    "link": _instead(lambda path: path.symlink_to(Path("victim/file").absolute())),
    "pipe": _instead(os.mkfifo),
    "folder": _instead(Path.mkdir),
    "device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "socket": _instead(_socket),
}
OF_FOLDERS: dict[str, Callable[[Path], None]] = {
    "removed": _instead(lambda _: None),
    "link": _instead(lambda path: path.symlink_to(Path("victim").absolute())),
    "pipe": _instead(os.mkfifo),
    "file": _instead(lambda path: path.write_text("x")),
}
VERBS: dict[str, tuple[str, ...]] = {
    "verify": ("verify", "run"),
    "compare": ("compare", "run", "other"),
    "eval": ("eval", "run"),
    "eval other data": ("eval", "run", "other-data"),
    "predict": ("predict", "run", "x.png"),
    "summary": ("summary", "run"),
    "doctor": ("doctor", "run"),
    "explain": ("explain", "run", "x.png", "--out", "page.html"),
    "show": ("show", "run", "filters", "--out", "filters.png"),
    "weights": ("train", "other-data", "--weights", "run", "--epochs", "1", "--out", "fine"),
    "configuration": ("train", "--config", "run/config.yaml", "--out", "again"),
    "resume": ("train", "--resume", "run"),
    "go on": ("train", "--resume", "run"),
    "follow": (),
}
VICTIM = {"file": "somebody's", ".x.tmp": "somebody's"}
"""What lies where links lead."""
TRAINS = {"weights": "fine", "configuration": "again", "resume": "run", "go on": "run"}
"""Verbs that train, and the run that they write: their answer is what it measures."""
_TAKES = re.compile(r"[\d.,]+(e-?\d+)? ?(ms|s|MiB|images/s|samples/s)\b|  +[\d.]+  +[\d.,]+$", re.MULTILINE)
"""What is another figure each time."""


class Told(NamedTuple):
    """What a verb answered."""

    code: object
    out: str
    err: str

    def answer(self, verb: str) -> str:
        """What does not depend on the machine."""
        if verb in TRAINS and self.code == 0:
            metrics = json.loads(Path(TRAINS[verb], "metrics.json").read_text())
            return str([metrics[split] for split in ("train", "val", "test")])
        if verb == "doctor":  # its trials take time, and say so
            return str(sorted(re.findall(r"^(?:error|warning|note) (?!speed)\S+", self.out, re.MULTILINE)))
        return _TAKES.sub("#", self.out)


@contextmanager
def in_time() -> Iterator[None]:
    def waited(*_: object) -> None:
        raise Waited

    before = signal.signal(signal.SIGALRM, waited)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tell(verb: str) -> Told:
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err), in_time():
        if verb == "follow":
            try:
                print(json.dumps(follow(RunDirectory(Path("run")), None, Snapshots(), 0)))
            except StriateError as error:
                code = 2
                print(f"error: {error}\nremedy:", file=err)
        else:
            code = main(list(VERBS[verb]))
    return Told(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def trained(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs, other data, a picture, and files of somebody's that must stay."""
    place = tmp_path_factory.mktemp("trained")
    for run in ("run", "other"):
        shutil.copytree(small_run, place / run)
    shutil.copyfile(place / "run" / "checkpoints" / "last.pt", place / "run" / "checkpoints" / "previous.pt")
    for k, name in enumerate(("cat", "dog")):
        (place / "other-data" / name).mkdir(parents=True)
        for i in range(8):
            picture = np.full((8, 8), 100 * k + i + 30, np.uint8)
            Image.fromarray(picture).save(place / "other-data" / name / f"{i}.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(place / "x.png")
    (place / "victim").mkdir()
    for name, text in VICTIM.items():
        (place / "victim" / name).write_text(text)
    return place


def copied(trained: Path, verb: str) -> None:
    """A copy of everything in the folder that the test runs in."""
    for there in Path().iterdir():
        if there.is_dir() and not there.is_symlink():
            shutil.rmtree(there)
        else:
            there.unlink()
    shutil.copytree(trained, Path(), dirs_exist_ok=True)
    if verb == "go on":
        Path("run/metrics.json").unlink()


_WHOLE: dict[str, tuple[object, str, str]] = {}
"""What each verb answers of the whole run: code, answer, stderr."""
_OTHER_RUNS = {("metrics.json", "removed"), ("checkpoints/previous.pt", "removed")}
"""What makes another run of it, and no damaged one: one that is not finished, one of a single checkpoint."""


def whole(trained: Path, verb: str) -> tuple[object, str, str]:
    if verb not in _WHOLE:
        copied(trained, verb)
        told = tell(verb)
        assert told.code in (0, 1), told
        _WHOLE[verb] = (told.code, told.answer(verb), told.err)
    return _WHOLE[verb]


def try_out(trained: Path, verb: str, file: str, damage: str) -> None:
    """One case. Raises AssertionError."""
    copied(trained, verb)
    path = Path("run", file)
    if not os.path.lexists(path):
        return
    (OF_FOLDERS if file in FOLDERS else DAMAGES)[damage](path)
    told, case = tell(verb), f"{verb}, {file} {damage}"
    assert {each.name: each.read_text() for each in Path("victim").iterdir()} == VICTIM, case
    assert "a fault in striate" not in told.err, (case, told)
    assert "Traceback" not in told.err, (case, told)
    if told.code == 2:
        assert "error:" in told.err, (case, told)
        assert "remedy:" in told.err, (case, told)
        return
    answer = told.answer(verb)
    code, expected, said = whole(trained, verb)
    if (told.code, answer) != (code, expected) and (file, damage) not in _OTHER_RUNS:
        new = "\n".join(line for line in (told.err + told.out).splitlines() if line not in said + expected)
        assert Path(file).name in new or file.split("/")[0] in new, (case, told, expected)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("verb", "file", "damage"),
    [
        *(("go on", file, "link") for file in (".lock", "events.jsonl", "metrics.csv", "plots", "predictions")),
        *((verb, "events.jsonl", "pipe") for verb in ("go on", "follow")),
        *(("compare", file, "pipe") for file in ("metrics.json", "env.json", "predictions/test.npz")),
        ("follow", "metrics.csv", "device"),
        ("follow", "metrics.json", "flipped"),
        ("eval other data", "seen.txt", "cut"),
        ("predict", "checkpoints/best.pt", "socket"),
        ("eval", "checkpoints", "link"),
    ],
)
def test_a_damaged_run_is_refused_at_once(trained: Path, verb: str, file: str, damage: str) -> None:
    try_out(trained, verb, file, damage)


@pytest.mark.slow
@pytest.mark.parametrize("file", [*FILES, *FOLDERS])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_every_damage(trained: Path, verb: str, file: str) -> None:
    if verb == "configuration" and file == "config.yaml":
        pytest.skip("whoever gives a configuration gives what it holds")
    for damage in OF_FOLDERS if file in FOLDERS else DAMAGES:
        try_out(trained, verb, file, damage)


def test_a_run_that_is_given_by_a_link_is_followed(trained: Path) -> None:
    copied(trained, "predict")
    for name in ("linked", "plots"):  # also by the name of a folder of runs
        Path(name).symlink_to("run")
        assert main(["predict", name, "x.png"]) == 0
    Path("best-of-all.pt").symlink_to("run/checkpoints/best.pt")
    assert main(["predict", "best-of-all.pt", "x.png"]) == 0


def test_a_file_that_is_appended_to_has_no_other_name(trained: Path) -> None:
    copied(trained, "go on")
    victim = Path("victim/file")
    os.link("run/events.jsonl", victim.with_name("events"))
    before = victim.with_name("events").read_bytes()
    told = tell("go on")
    assert told.code == 2
    assert "cp run/events.jsonl" in told.err
    assert victim.with_name("events").read_bytes() == before


def test_temporary_files_of_a_watched_run_are_not_written_through_links(trained: Path) -> None:
    copied(trained, "follow")
    run = RunDirectory(Path("run"))
    for name in (".watched.tmp", ".look.tmp", f".look.{os.getpid()}.tmp"):
        (run.path / name).symlink_to(Path("victim/file").absolute())
    known = Path("victim/file").lstat()
    assert not request_snapshots(run)
    write_snapshot(run, {"step": 1})
    assert Path("victim/file").lstat() == known
    assert read_snapshot(run) == {"step": 1}


def test_a_folder_of_ones_own_may_be_a_link() -> None:
    Path("elsewhere").mkdir()
    Path("plots").symlink_to("elsewhere")
    write_text(Path("plots/page.html"), "x")
    assert Path("elsewhere/page.html").read_text() == "x"


@pytest.mark.parametrize("name", ["folds", "plots", "metrics.json", ".lock"])
def test_a_cross_validation_with_a_link_is_refused_before_it_goes_on(name: str) -> None:
    Path("study").mkdir()
    Path("study/config.yaml").write_text("cv: 2")
    Path("victim").write_text("somebody's")
    Path("study", name).symlink_to("../victim")
    with pytest.raises(RunError, match="a link"), owned(Path("study")):
        raise AssertionError
    assert Path("victim").read_text() == "somebody's"


@pytest.mark.parametrize("name", ["best", "plots", ".lock", "study.journal"])
def test_a_sweep_with_a_link_is_refused_before_it_goes_on(name: str) -> None:
    Path("sweep").mkdir()
    Path("sweep/study.yaml").write_text("{}")
    Path("victim").write_text("somebody's")
    Path("sweep", name).symlink_to("../victim")
    with pytest.raises(RunError, match="a link"), locked(Path("sweep")):
        Journal(Path("sweep/study.journal"), (), 0)
    assert Path("victim").read_text() == "somebody's"


def test_a_folder_of_a_run_that_was_put_aside_is_made_again(trained: Path) -> None:
    copied(trained, "go on")
    run = RunDirectory(Path("run"))
    (run.path / "plots").rename("run/plots.aside")
    write_text(run.plots / "x.svg", "x")
    assert run.plots.is_dir()
    shutil.rmtree(run.path)
    with pytest.raises(RunError):  # a run that was deleted is not
        write_text(run.plots / "x.svg", "x")
    assert not run.path.exists()


def test_what_is_measured_on_other_data_is_not_written_through_a_link(trained: Path) -> None:
    copied(trained, "eval other data")
    Path("run/evaluations").symlink_to(Path("victim").absolute())
    assert "not written: run/evaluations: a link" in tell("eval other data").err
    assert {each.name for each in Path("victim").iterdir()} == set(VICTIM)
