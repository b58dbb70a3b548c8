"""What the two commands of the README install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def commands(target: str, folder: Path) -> str:
    """What `make target` would do in a fresh checkout."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    made = subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True, check=True)
    return made.stdout


@pytest.mark.parametrize(("target", "developers"), [("demo", False), ("test", True)])
def test_the_demo_installs_no_tools_of_developers(target: str, developers: bool, tmp_path: Path) -> None:
    done = commands(target, tmp_path)
    assert "pip install" in done
    assert (".[dev]" in done) is developers
