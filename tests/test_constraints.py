"""The hash-pinned list is of what the program needs, in the versions that are tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HASHED = (ROOT / "constraints-hashed.txt").read_text()
PINNED = {
    canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", HASHED, flags=re.MULTILINE)
}


def test_every_entry_is_one_version_with_hashes_and_nothing_else() -> None:
    for entry in re.split(r"\n(?=\S)", HASHED.strip()):
        first, *hashes = [line.strip(" \\") for line in entry.split("\n")]
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", first), first
        assert hashes, first
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in hashes), first


def test_all_is_every_extra_of_the_program() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["video"] == ["striate[clips]"]
    assert extras["volume"] == ["striate[volumes]"]
    (whole,) = map(Requirement, extras["all"])
    assert whole.extras == extras.keys() - {"all", "detect", "video", "volume", "bench", "dev"}


def test_it_has_what_the_program_needs_in_the_versions_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)]), requirement
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for name, version in tested.items():
        assert PINNED.get(canonicalize_name(name), version) == version, name
