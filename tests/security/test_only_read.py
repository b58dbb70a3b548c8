"""No verb writes under a path that it was only given to read: a run, its data, a picture, a configuration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quick import few_quick
from striate.cli.main import main

READS: dict[str, tuple[str, ...]] = {
    "verify": ("verify", "run"),
    "compare": ("compare", "run", "other"),
    "predict": ("predict", "run", "picture/x.png", "data/cat"),
    "summary": ("summary", "run"),
    "doctor": ("doctor", "run"),
    "doctor of data": ("doctor", "data", "--seconds", "2"),
    "explain": ("explain", "run", "picture/x.png", "--out", "out/page.html"),
    "explain without a page": ("explain", "run", "picture/x.png"),
    "show": ("show", "run", "filters", "--out", "out/filters.png"),
    "train": ("train", "data", "--model", "fc(2)", "--epochs", "1", "--out", "out/new"),
    "train with weights": ("train", "data", "--weights", "run", "--epochs", "1", "--out", "out/fine"),
    "train a configuration": ("train", "--config", "run/config.yaml", "--out", "out/again"),
    "train folds": ("train", "data", "--model", "fc(2)", "--epochs", "1", "--cv", "2", "--out", "out/folds"),
    "plan": ("plan", "data", "--model", "fc(2)"),
    "lr-find": ("lr-find", "data", "--model", "fc(2)"),
    "baseline": ("baseline", "data"),
    "data check": ("data", "check", "data"),
    "data show": ("data", "show", "data", "--out", "out/show.png"),
    "data pack": ("data", "pack", "data"),
    "shards": ("data", "pack", "data", "--shards", "out/shards"),
    "pixels": ("pixels", "picture/x.png"),
    "filter": ("filter", "picture/x.png", "out/x.png", "--kernel", "identity"),
}
"""Verbs, and in them what is only given to be read: the folders of `GIVEN`."""
WRITES: dict[str, tuple[str, ...]] = {
    "eval": ("eval", "run"),
    "eval of other data": ("eval", "run", "data"),
    "eval of robustness": ("eval", "run", "--robustness"),
    "resume": ("train", "--resume", "run"),
}
"""Verbs that write into the run, as docs/security.md says; never into the data."""
GIVEN = ("run", "other", "data", "picture")


def tree(*places: str) -> dict[str, tuple[int, ...]]:
    """Everything below: the system itself writes down when a file or folder was changed last, and nobody can undo
    that."""
    paths = [path for place in places for path in (Path(place), *Path(place).rglob("*"))]
    return {
        str(path): (status.st_ino, status.st_size, status.st_ctime_ns) for path in paths if (status := path.lstat())
    }


@pytest.fixture
def given(small_run: Path) -> dict[str, tuple[int, ...]]:
    """What is given lies in the folder of the test; what is known of it."""
    for run in ("run", "other"):
        shutil.copytree(small_run, run)
    shutil.copytree(small_run.parent / "data", "data")
    Path("picture").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("picture/x.png")
    Path("out").mkdir()
    return tree(*GIVEN)


@pytest.mark.parametrize("verb", few_quick(READS, ["compare", "predict", "data check"]))
def test_what_is_given_to_be_read_stays_as_it_is(given: dict[str, tuple[int, ...]], verb: str) -> None:
    assert main(list(READS[verb])) in (0, 1)
    assert tree(*GIVEN) == given


@pytest.mark.parametrize("verb", few_quick(WRITES, ["eval of other data"]))
def test_what_writes_into_a_run_by_promise_leaves_its_data_alone(given: dict[str, tuple[int, ...]], verb: str) -> None:
    Path("run/evaluation.json").unlink()  # which eval writes again
    assert main(list(WRITES[verb])) in (0, 1)
    others = ("other", "data", "picture")
    assert tree(*others) == {path: known for path, known in given.items() if Path(path).parts[0] in others}


_TRACED = """
import json, os, sys
given, verbs = json.loads(sys.argv[1])
given = [os.path.abspath(place) for place in given]
changes = "mkdir rename remove rmdir truncate utime chmod chown link symlink setxattr".split()
found, now = [], ""

def traced(event, arguments):
    if event == "open":
        path, _, flags = arguments
        paths = [path] if (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) else []
    else:
        paths = arguments if event.removeprefix("os.") in changes else []
    for path in paths:
        if isinstance(path, (str, bytes, os.PathLike)):
            place = os.path.abspath(os.fsdecode(path))
            if any(place == one or place.startswith(one + os.sep) for one in given):
                found.append([now, event, place])

from striate.cli.main import main
sys.addaudithook(traced)
codes = {}
for now, words in verbs.items():
    codes[now] = main(words)
print(json.dumps([codes, found]), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("given")
def test_nothing_that_is_given_to_be_read_is_even_opened_to_be_written() -> None:
    """Calls by path, as Python's audit hooks see them; what is opened relative to a folder is known by `tree`."""
    program = [sys.executable, "-c", _TRACED, json.dumps([GIVEN, READS])]
    done = subprocess.run(program, capture_output=True, text=True, timeout=600, env=dict(os.environ), check=True)
    codes, found = json.loads(done.stderr.splitlines()[-1])
    assert set(codes.values()) <= {0, 1}, (codes, done.stderr)
    assert found == []
