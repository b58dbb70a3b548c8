"""The verbs that list things, help, output, and the ways in which a program ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import striate
from quick import few_quick
from striate.__main__ import start
from striate.cli import main
from striate.cli.main import VERBS, join_fields
from striate.data.sources.named import catalogue
from striate.errors import printable

RUN = [sys.executable, "-m", "striate"]


@pytest.mark.parametrize("verb", ["models", "datasets", "env"])
def test_lists_fit_a_terminal_and_come_as_json(capsys, verb: str) -> None:
    assert main([verb]) == 0
    out, err = capsys.readouterr()
    assert out
    assert not err
    if verb != "env":
        assert max(map(len, out.splitlines())) <= 90
    assert main([verb, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document


def test_a_narrow_terminal_breaks_no_name_of_a_data_set(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    main(["datasets"])
    first = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line and line[0] != " "}
    assert {info.name for info in catalogue()} <= first


def test_datasets_say_where_they_are(capsys) -> None:
    main(["datasets", "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["mnist5k"]["where"] == "embedded"
    assert {"mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "digits", "iris", "boston"} <= set(rows)
    for row in rows.values():
        assert row["license"]


@pytest.mark.parametrize("wide", [80, 300])
def test_paths_of_data_sets_stay_whole(capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wide: int) -> None:
    path = tmp_path / "a folder with a long name" / "mnist"
    monkeypatch.setattr("striate.data.sources.named.place", lambda name: str(path) if name == "mnist" else None)
    monkeypatch.setenv("COLUMNS", str(wide))
    main(["datasets"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("mnist ") for line in lines if str(path) in line] == [True]
    assert (f"mnist           {path}" in lines) is (wide == 80)


def test_help_lists_every_verb(capsys) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in ("train", "eval", "predict", "models", "datasets", "env"):
        assert f" {verb} " in text
    assert main([]) == 0
    assert capsys.readouterr().out == text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == striate.__version__


def test_dotted_options_become_fields() -> None:
    assert join_fields(["train", "--optim.lr", "0.1", "x"]) == ["train", "--set", "optim.lr=0.1", "x"]
    assert join_fields(["--optim.lr=-1", "--a.b"]) == ["--set", "optim.lr=-1", "--set", "a.b=true"]
    assert join_fields(["--a.b", "--c.d", "e"]) == ["--set", "a.b=true", "--set", "c.d=e"]
    assert join_fields(["./x.y", "--out", "a.b"]) == ["./x.y", "--out", "a.b"]


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert printable("a\x1b[31mb\rc\nd") == "a\\x1b[31mb\\rc\nd"


@pytest.mark.slow
def test_the_module_is_the_program() -> None:
    done = subprocess.run(
        [*RUN, "filter", "nowhere.png", "out.png", "--kernel", "mean3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    assert not done.stdout


_WITH_MORE_AT_THE_END = """
import atexit, sys
from striate.cli import program
entry, allow = sys.modules["striate.cli.main"], sys.modules["striate.cli.main"].allow_second
entry.allow_second = lambda: (atexit.register(print, "at last"), allow())  # as a library does that is loaded later
sys.exit(program())
"""


@pytest.mark.parametrize(("words", "code"), [("models", 0), ("nothing", 2)])
def test_what_has_to_be_done_at_the_end_is_done_before_the_program_leaves_at_once(words: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITH_MORE_AT_THE_END, words], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stdout.endswith("at last\n")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(f"{sys.executable} -m striate env | head -1", shell=True, capture_output=True, check=False)
    assert not done.stderr


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("words", ["models", "--help", "env --json"])
@pytest.mark.parametrize("where", ["/dev/full", "&-"])
def test_output_that_cannot_be_written_is_told_in_one_line(words: str, where: str) -> None:
    command = f"{sys.executable} -m striate {words} >{where}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: standard output cannot be written: ")


def test_letters_that_the_encoding_of_the_output_lacks_are_escaped() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = {
        words: subprocess.run([*RUN, *words.split()], capture_output=True, check=False, env=environment)
        for words in ("models", "models --json")
    }
    assert [ended.returncode for ended in done.values()] == [0, 0]
    assert b"\\u2013" in done["models"].stdout
    assert any("–" in str(entry) for entry in json.loads(done["models --json"].stdout))


def test_an_interruption_while_the_program_is_loaded_is_no_traceback(monkeypatch, capsys) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("striate.cli.program", interrupt)
    assert start() == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_home_folder_that_the_shell_left(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "net.py").write_text("")
    assert main(["train", "iris", "--model", "fc(3)", "--epochs", "1", "--out=~/net.py"]) == 2
    assert f"error: {tmp_path}/net.py" in capsys.readouterr().err
    assert main(["summary", "~/nothing"]) == 2
    assert "~" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", few_quick([signal.SIGINT, signal.SIGTERM], [signal.SIGTERM]))
def test_an_interrupted_program_saves_says_how_to_go_on_and_does(number: int) -> None:
    words = ["train", "mnist5k", "--model", "mlp(8)", "--epochs", "400", "--out", "run"]
    with subprocess.Popen([*RUN, *words], stderr=subprocess.PIPE, text=True, env=os.environ) as program:
        deadline = time.monotonic() + 600
        while not Path("run/metrics.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        program.send_signal(number)
        _, err = program.communicate(timeout=600)
    assert program.returncode == 130
    assert "striate train --resume run" in err
    assert Path("run/checkpoints/last.pt").exists()
    assert not Path("run/metrics.json").exists()


def test_every_verb_that_has_a_function_or_a_line_in_the_docs_is_listed() -> None:
    modules = Path(striate.__file__).parent.joinpath("cli").glob("*.py")
    own = {path.stem for path in modules if f"\ndef {path.stem}(" in path.read_text(encoding="utf-8")} - {"main"}
    assert {{"evaluate": "eval"}.get(name, name).replace("_", "-") for name in own} <= set(VERBS)
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *root.joinpath("docs").rglob("*.md")]
    written = {
        word for page in pages for word in re.findall(r"^    striate ([a-z][a-z-]*)", page.read_text("utf-8"), re.M)
    }
    assert written <= set(VERBS)
