"""What the program writes, it writes where it says: a training with plots leaves nothing elsewhere."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from striate.machine.library_caches import keep_caches_private
from striate.training.execution import has_compiler

NAMES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A new home folder, and nothing said of where libraries write."""
    for name in ("STRIATE_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "STRIATE_DATA"):
        monkeypatch.delenv(name, raising=False)
    for name in NAMES:
        monkeypatch.setenv(name, "")  # put back afterwards, also what is set meanwhile
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_libraries_get_a_folder_that_nobody_else_can_write_into(home) -> None:
    keep_caches_private()
    folder = home / ".cache" / "striate" / "libraries"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [Path(os.environ[name]).parent for name in NAMES] == [folder] * len(NAMES)


def test_what_the_user_has_set_stays(home, monkeypatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", "/mine")
    keep_caches_private()
    assert os.environ["MPLCONFIGDIR"] == "/mine"
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(home)


@pytest.mark.parametrize("there", ["link", "open to all", "a file"])
def test_a_folder_that_others_could_have_prepared_is_not_used(home, there, tmp_path) -> None:
    folder = home / ".cache" / "striate" / "libraries"
    folder.parent.mkdir(parents=True)
    if there == "link":
        (tmp_path / "theirs").mkdir()
        folder.symlink_to(tmp_path / "theirs")
    elif there == "a file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    keep_caches_private()
    used = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent
    assert not used.is_relative_to(folder)
    assert stat.S_IMODE(used.stat().st_mode) == 0o700
    used.rmdir()


_WATCHED = """
import json, os, sys
seen = set()
def hear(event, args):
    if event == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.add(os.path.abspath(args[0]))
    elif event in ("os.mkdir", "os.symlink", "os.rename", "os.link", "os.truncate"):
        seen.update(os.path.abspath(os.fsdecode(a)) for a in args[:2] if isinstance(a, (str, bytes)))
sys.addaudithook(hear)
from striate.cli import program
code = program()
sys.stderr.write("WRITTEN " + json.dumps([code, sorted(seen)]))
"""


@pytest.mark.slow
def test_a_training_with_plots_and_a_compiled_step_writes_nowhere_else(home, tmp_path) -> None:
    temporary, work = tmp_path / "temporary", tmp_path / "work"
    for folder in (home, temporary, work):
        folder.mkdir()
    compiled = ("--execution.compile", "default") if has_compiler() else ()
    command = ["train", "digits", "--model", "conv(4,3) relu gap fc(10)", "--epochs", "1", "--out", "run", *compiled]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("MPLBACKEND", None)
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, *command],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    code, written = json.loads(done.stderr.rpartition("WRITTEN ")[2])
    assert code == 0, done.stderr
    promised = (work / "run", home / ".cache" / "striate")
    above = {parent for folder in promised for parent in folder.parents}
    outside = [Path(name) for name in written if not any(Path(name).is_relative_to(folder) for folder in promised)]
    # A bare name is opened in a folder that the hook is not told: what lies in the current one is looked at below.
    outside = [path for path in outside if path.parent != work]
    assert [path for path in outside if path not in above and not _unnamed(path, temporary)] == []
    assert (work / "run" / "plots").is_dir()
    assert [path.name for path in work.iterdir()] == ["run"]
    assert [path.name for path in home.iterdir()] == [".cache"]
    assert [path.name for path in (home / ".cache").iterdir()] == ["striate"]
    assert list(temporary.iterdir()) == []
    if compiled:
        assert list((home / ".cache" / "striate" / "libraries" / "inductor").iterdir())


def _unnamed(path: Path, temporary: Path) -> bool:
    """Whether it is a device, or lies in the temporary folder under a name that was drawn at random, and is gone."""
    return path.is_relative_to("/dev") or path.is_relative_to("/proc") or path.is_relative_to(temporary)
