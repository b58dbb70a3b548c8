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


@pytest.mark.parametrize("failing", ["", "ruff", "mypy", "python"])
def test_the_test_target_fails_with_each_of_its_tools(failing: str, tmp_path: Path) -> None:
    """mypy runs in the background: what it says, and that it failed, must not be lost."""
    for name in ("ruff", "mypy", "python"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} has run\nexit {int(name == failing)}\n")
        (tmp_path / name).chmod(0o755)
    command = ["make", "-f", ROOT / "Makefile", "-o", "install", "test", f"BIN={tmp_path}"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (made.returncode == 0) is (not failing), made.stderr
    assert ("mypy has run" in made.stdout) is (failing != "ruff")
