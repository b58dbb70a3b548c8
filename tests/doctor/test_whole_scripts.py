"""A user's script is run as it is until its first step: the bug in it is found, and nothing is without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quick import few_quick
from striate.cli import main

FOLDER = Path(__file__).parent / "whole_scripts"
BUGS = {
    "mnist_example": "optim.missing-zero-grad",
    "nano_loop": "optim.lr-too-high",
    "timm_like": "optim.clip-too-small",
    "trainer_class": "optim.parameters-missing",
    "house_prices": "data.target-scale",
}
NAMES = list(BUGS)


def examined(script: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, document and standard error of `python -m striate.doctor`, from its own folder."""
    command = [sys.executable, "-m", "striate.doctor", script.name, "--json", "--", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=script.parent)
    return done.returncode, json.loads(done.stdout), done.stderr


def arguments(name: str) -> list[str]:
    return ["--epochs", "1"] if name == "mnist_example" else []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_bug_of_a_script_is_named(name: str) -> None:
    code, document, err = examined(FOLDER / f"{name}.py", *arguments(name), "--broken")
    assert code == 1, err
    assert BUGS[name] in [finding["code"] for finding in document["findings"][:2]], document["findings"]


@pytest.mark.slow
def test_a_first_step_that_fails_is_explained() -> None:
    code, document, err = examined(FOLDER / "labels_from_one.py", "--broken")
    assert code == 1, err
    assert document["findings"][0]["code"] == "data.label-range"
    assert "the step changes them" in document["findings"][0]["measured"]


@pytest.mark.slow
@pytest.mark.parametrize("name", few_quick(NAMES, ["trainer_class"]))
def test_a_script_without_its_bug_is_healthy(name: str) -> None:
    code, document, err = examined(FOLDER / f"{name}.py", *arguments(name))
    assert code == 0, err
    assert document["healthy"], document


@pytest.mark.slow
def test_a_script_that_plays_is_examined_by_its_code_and_its_replay_buffer() -> None:
    script = FOLDER / "dqn_corridor.py"
    code, document, err = examined(script)
    assert (code, document["findings"]) == (0, []), err
    assert "plays an environment" in document["subject"]
    assert {"reward.off-by-one", "reward.terminal-lost", "optim.no-step"} <= set(document["looked_at"])
    code, document, err = examined(script, "--broken")
    assert code == 1, err
    assert [finding["code"] for finding in document["findings"]] == ["reward.off-by-one"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import torch\nx = torch.zeros(3)\nprint(undefined)\n", "NameError at line 3"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("print('done')\n", "ends after 0 backward passes and no optimizer step"),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--n', required=True)\np.parse_args()\n",
            "--",
        ),
    ],
)
def test_a_script_that_does_not_train_is_said_with_its_own_error(text: str, said: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(text)
    code, document, err = examined(script)
    assert code == 2
    assert said in document["error"]["got"] + document["error"]["remedy"]
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_verb_examines_a_script(capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", str(FOLDER / "mnist_example.py"), "--", "--epochs", "1", "--broken"])
    out, _ = capfd.readouterr()
    assert code == 1
    assert "error optim.missing-zero-grad" in out
    assert "in the loop at mnist_example.py, line" in out


def test_options_of_a_training_are_refused_beside_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "train.py", "--optim.lr", "1"]) == 2
    assert "with a script" in capsys.readouterr().err
    assert main(["doctor", "digits", "--", "--epochs", "1"]) == 2
    assert "after a script" in capsys.readouterr().err
