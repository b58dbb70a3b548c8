"""Options of the command line that follow from the configuration: every field is in `--help`, and can be given."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from itertools import pairwise

import pytest

from striate.cli import main
from striate.cli.main import VERBS, join_fields, make_app
from striate.training.config import Config
from striate.training.config_fields import config_fields, sections
from striate.training.config_file import field_names, get_field, option_of, with_fields
from striate.training.request import merge_request

SHORT = {name: option_of(name) for name in field_names() if "." in name and "." not in option_of(name)}


def help_of(capsys: pytest.CaptureFixture[str], *verb: str) -> str:
    assert main([*verb, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_help_of_a_training_has_every_field(capsys, monkeypatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = help_of(capsys, "train")
    listed = [name for name in field_names() if f"--{name} " in text or f"--{name}." in text]
    assert listed == [field.name for field in config_fields().values() if not field.written]
    assert max(map(len, text.splitlines())) <= int(columns)
    assert all(f"─ {section} ─" in text for section in sections() if any_left(section))
    assert text.index("--epochs") < text.index("--resume") < text.index("--optim.momentum")


def any_left(section: str) -> bool:
    return any(name.startswith(f"{section}.") and name not in SHORT for name in field_names())


def test_every_field_says_what_it_is() -> None:
    for field in config_fields().values():
        assert len(field.text) > 10, field.name
        assert field.values.kind, field.name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("optim.momentum", ["0 to below 1", "Default: 0.9"]),
        ("optim.name", ["sgd", "adamw", "file.py:name"]),
        ("budget.epochs", ["at least 1"]),
        ("augment.flip", ["true", "false", "alternate"]),
        ("task.name", ["classify", "regress", "segment"]),
        ("schedule.final", ["0 to 1", "Default: 0.001"]),
        ("data.channels", ["1 for gray"]),
    ],
)
def test_help_has_choices_range_and_default_of_a_field(name: str, said: list[str]) -> None:
    text = config_fields()[name].help
    assert [words for words in said if words not in text] == []


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("verb", "has", "lacks"),
    [
        (["sweep"], ["--over", "--trials", "--optimizer", "--augment.shift"], ["--cv", "--budget.minutes"]),
        (["plan"], ["--batch", "--execution.precision", "--seconds"], ["--plan", "--cv"]),
        (["learning-curve"], ["--epochs", "--weights", "--counts"], ["--cv", "--budget.target"]),
        (["lr-find"], ["--epochs", "--schedule.name"], ["--optim.lr", "--cv"]),
        (["doctor"], ["--lr", "--optim.momentum", "--device"], ["--cv", "--data.fingerprint"]),
        (["baseline"], ["--size", "--seed", "--data.split_seed"], ["--optim.momentum", "--epochs"]),
        (["data", "check"], ["--size", "--task", "--data.layout"], ["--optim.momentum", "--data.packs"]),
        (["data", "pack"], ["--size", "--data.fit", "--data.packs"], ["--data.split_seed", "--augment.flip"]),
        (["data", "show"], ["--size", "--seed", "--augment.rotate"], ["--optim.momentum", "--epochs"]),
    ],
)
def test_a_verb_has_the_fields_that_concern_it(capsys, verb: list[str], has: list[str], lacks: list[str]) -> None:
    text = help_of(capsys, *verb)
    assert [option for option in has if f" {option} " not in text] == []
    assert [option for option in lacks if f"│ {option} " in text] == []


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("name", "option"), SHORT.items())
def test_a_short_option_and_its_field_are_the_same(name: str, option: str) -> None:
    values = {bool: "true", int: "3", float: "0.5", str: "x"}
    field = config_fields()[name]
    value = field.values.choices[0] if field.values.choices else values[{"BOOL": bool, "INT": int, "FLOAT": float}.get(
        field.values.kind, str
    )]  # fmt: skip
    value = "48x32" if name == "data.size" else value
    words = [option] if field.values.kind == "BOOL" else [option, value]
    _, bound, *_ = make_app().parse_args(["train", "iris", *words], exit_on_error=False, print_error=False)
    (given,) = bound.kwargs.values()
    assert given == (True if field.values.kind == "BOOL" else value)
    assert (
        get_field(merge_request(Config(), fields={name: value}), name) != get_field(Config(), name) or value == "auto"
    )


def test_a_size_is_understood_under_both_names(capsys) -> None:
    for words in (["--size", "48x"], ["--data.size", "48x"]):
        assert main(["train", "mnist5k", *words]) == 2
        err = capsys.readouterr().err
        assert "error: --size (data.size)\n" in err
        assert "--size 96" in err
    assert merge_request(Config(), fields={"data.size": "48x32"}).data.size == (48, 32)
    assert merge_request(Config(), fields={"data.size": "[48, 32]"}).data.size == (48, 32)


@pytest.mark.parametrize("name", ["baseline", "execution.deterministic"])
def test_a_switch_is_turned_off_on_top_of_a_configuration(name: str) -> None:
    option = option_of(name)
    for words in ([option, "false"], [f"{option}=false"], [f"--no-{option[2:]}"], ["--set", f"{name}=false"]):
        words = join_fields(["train", *words, "iris"])
        _, bound, *_ = make_app().parse_args(words, exit_on_error=False, print_error=False)
        assert bound.args == ("iris",)
        (given,) = bound.kwargs.values()
        assert given in (False, [f"{name}=false"])
    assert join_fields(["train", option, "iris"]) == ["train", option, "iris"]


def test_the_remedy_for_the_negative_of_a_flag_is_not_the_flag(capsys) -> None:
    assert main(["train", "iris", "--no-json", "--epochs", "1"]) == 2
    assert "remedy:   striate train iris --epochs 1\n" in capsys.readouterr().err


def test_what_a_run_records_is_not_set_by_a_user(capsys) -> None:
    recorded = with_fields(Config(), {"data.fingerprint": "x", "execution.processes": 3})
    assert merge_request(recorded, fields={"data.fingerprint": "null"}).data.fingerprint is None
    assert merge_request(recorded, fields={"execution.processes": "3"}) == recorded
    for field in (field for field in config_fields().values() if field.written):
        value = {"execution.processes": "2", "code": "[[a, b]]", "decided": "[batch]"}.get(field.name, "MIT")
        value = "[[1, 2]]" if field.name in ("budget.steps_before", "execution.micro_batch_from") else value
        assert main(["train", "iris", "--set", f"{field.name}={value}"]) == 2
        said = capsys.readouterr().err
        assert f"error: {field.name}\n" in said
        assert f"leave out {field.name}\n" in said


def test_a_value_as_text_that_is_what_the_file_has_decides_nothing_anew() -> None:
    decided = with_fields(Config(), {"batch": 64, "optim.weight_decay": 0.1, "decided": ["optim.weight_decay"]})
    assert merge_request(decided, fields={"batch": "64"}) == decided
    assert merge_request(decided, fields={"batch": "32"}).optim.weight_decay is None


def test_the_list_of_verbs_says_what_the_verbs_say(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    listed = help_of(capsys) + help_of(capsys, "data")
    for verb, module in [(verb, {"eval": "evaluate"}.get(verb, verb).replace("-", "_")) for verb in VERBS]:
        if verb == "data":
            continue
        function = getattr(import_module(f"striate.cli.{module}"), module)
        assert " ".join((function.__doc__ or "").split("\n\n")[0].split()) in listed, verb


def test_the_verbs_come_in_groups(capsys) -> None:
    text = help_of(capsys)
    places = [text.index(f"─ {title} ─") for title in ("Train and judge", "Data", "Networks", "Look and learn", "Ship")]
    assert places == sorted(places)
    assert (
        places[0] < text.index("│ train ") < text.index("│ eval ") < places[1] < text.index("│ datasets ") < places[2]
    )


@pytest.mark.slow
def test_help_needs_neither_torch_nor_the_configuration() -> None:
    code = (
        "import sys\nfrom striate.cli.main import main\nmain(['--help'])\n"
        "assert not {'torch', 'pydantic', 'striate.training.config'} & set(sys.modules)\n"
        "[main([*verb.split(), '--help']) for verb in ('train', 'sweep', 'plan', 'lr-find', 'doctor', 'data check',"
        " 'data pack', 'data show', 'baseline')]\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("verb", [[verb] for verb in VERBS if verb != "data"] + [["data", "pack"]])
def test_help_fits_a_terminal_of_80_columns_in_whole_lines(capsys, verb: list[str]) -> None:
    text = help_of(capsys, *verb)
    assert max(map(len, text.splitlines())) <= 80
    for paragraph in text.partition("╭")[0].split("\n\n"):
        # A line ends where the next word no longer fits.
        for line, after in pairwise(paragraph.strip().splitlines()):
            assert len(line.rstrip()) + 1 + len(after.split()[0]) > 80


def test_an_option_of_a_field_that_a_verb_lacks_is_named(capsys) -> None:
    assert main(["predict", "run", "x.png", "--optim.lr", "1"]) == 2
    assert "--optim.lr" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "where", "remedy"),
    [
        (["plan", "iris", "--keep", "last"], "--keep", "striate plan iris"),
        (["plan", "iris", "--patience", "3"], "--patience", "striate plan iris"),
        (["plan", "iris", "--set", "keep=last"], "--keep", "leave out --keep"),
        (["sweep", "iris", "--target", "0.9", "--epochs", "1"], "--target", "striate sweep iris --epochs 1"),
        (["sweep", "iris", "--budget.minutes", "1"], "--budget.minutes", "--minutes 1"),
        (["baseline", "iris", "--deterministic"], "--deterministic", "striate baseline iris"),
    ],
)
def test_a_field_without_effect_on_a_verb_is_refused(words: list[str], where: str, remedy: str, capsys) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert f"error: {where}\n" in err
    assert f"remedy:   {remedy}\n" in err
