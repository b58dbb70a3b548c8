"""Words of other tools: each is refused, and the remedy is the same command line in our words, which parses."""

from __future__ import annotations

import shlex

import pytest

from striate.cli import main
from striate.cli.main import VERBS as OURS
from striate.cli.main import join_fields, make_app
from striate.cli.other_tools import OPTIONS, VERBS


def remedy(capsys: pytest.CaptureFixture[str], command: str) -> str:
    """The remedy of a refused command line, which the command line understands."""
    assert main(shlex.split(command)) == 2
    captured = capsys.readouterr()
    assert not captured.out
    told = captured.err.partition("remedy:")[2].strip()
    assert told.startswith("striate ")
    make_app().parse_args(join_fields(shlex.split(told)[1:]), exit_on_error=False, print_error=False)
    return told.removeprefix("striate ")


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("command", "ours"),
    [
        ("train photos --imgsz 96", "train photos --size 96"),
        ("train photos --img 96", "train photos --size 96"),
        ("train photos --lr0 0.01 --batch-size 32", "train photos --lr 0.01 --batch 32"),
        ("train photos --learning_rate=0.01", "train photos --lr 0.01"),
        ("train photos --max-epochs 5 --device cpu", "train photos --epochs 5 --device cpu"),
        ("train photos --pretrained w.pt", "train photos --weights w.pt"),
        ("train photos --pretrained", "train photos"),
        ("train --pretrained photos --epochs 3", "train photos --epochs 3"),
        ("train photos --workers 4 --epochs 3", "train photos --epochs 3"),
        ("train photos --val --epochs 3", "train photos --epochs 3"),
        ("train photos --scheduler cosine --wd 0.1", "train photos --schedule.name cosine --optim.weight_decay 0.1"),
        ("train data=photos epochs=3", "train photos --epochs 3"),
        ("train epochs=3 imgsz=96 data='my photos'", "train 'my photos' --epochs 3 --size 96"),
        ("train data=photos optim.lr=0.1", "train photos --optim.lr 0.1"),
        ("train --data photos --epochs 3", "train photos --epochs 3"),
        ("fit photos --epochs 3", "train photos --epochs 3"),
        ("fit photos --fsdp --imgsz 96", "train photos --fsdp --size 96"),
        ("test runs/a", "eval runs/a"),
        ("validate runs/a --device cuda", "eval runs/a"),
        ("val runs/a photos", "eval runs/a photos"),
        ("inference runs/a photo.jpg --imgsz 96", "predict runs/a photo.jpg"),
        ("predict model=runs/a source=photo.jpg", "predict runs/a photo.jpg"),
        ("info resnet18", "summary resnet18"),
        ("sweep photos --over optim.lr=1e-3..1 --imgsz 9", "sweep photos --over optim.lr=1e-3..1 --size 9"),
        ("data check --imgsz 96 photos", "data check --size 96 photos"),
    ],
)
def test_the_remedy_is_the_command_in_our_words(capsys, command: str, ours: str) -> None:
    assert shlex.split(remedy(capsys, command)) == shlex.split(ours)


@pytest.mark.each_nth(6)
@pytest.mark.parametrize("word", [*OPTIONS])
def test_every_option_of_the_table_leads_to_a_command_that_parses(capsys, word: str) -> None:
    remedy(capsys, f"train photos --{word} 1")
    remedy(capsys, f"train photos {word.replace('-', '_')}=1")


@pytest.mark.parametrize("word", [*VERBS])
def test_every_verb_of_the_table_is_none_of_ours_and_leads_to_one(word: str) -> None:
    assert word not in OURS
    assert VERBS[word] in OURS


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    "command",
    ["train iris --epochs 0 --set optim.lr=0.1", "sweep iris --over optim.lr=1..2 --trials 0", "train a=b/c=d"],
)
def test_our_own_words_are_left_alone(capsys, command: str) -> None:
    assert main(shlex.split(command)) == 2
    assert "remedy:   striate train iris" not in capsys.readouterr().err


def test_a_path_with_an_equals_sign_is_a_path(capsys, photos) -> None:
    photos().rename("data=photos")
    assert main(["train", "data=photos", "--epochs", "0"]) == 2
    assert "--epochs" in capsys.readouterr().err.partition("remedy:")[2]


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(
    ("source", "command"),
    [
        ("https://example.org/a/flowers.zip", "curl -fL https://example.org/a/flowers.zip -o flowers.zip"),
        ("hf://datasets/owner/name", "hf download owner/name"),
        ("https://huggingface.co/datasets/owner/name", "hf download owner/name"),
        ("s3://bucket/photos", "aws s3 sync s3://bucket/photos photos"),
        ("kaggle:owner/name", "kaggle datasets download owner/name"),
        ("https://www.kaggle.com/datasets/owner/name", "kaggle datasets download owner/name"),
        ("gs://bucket/photos", "gcloud storage rsync -r gs://bucket/photos photos"),
    ],
)
@pytest.mark.parametrize("verb", [["train"], ["data", "check"]])
def test_data_elsewhere_are_refused_with_how_to_get_them(capsys, verb: list[str], source: str, command: str) -> None:
    assert main([*verb, source]) == 2
    told = capsys.readouterr().err.partition("remedy:")[2].strip()
    assert told.startswith(command)
    assert "&& striate train " in told


def test_a_url_as_a_file_name_runs_nothing_when_pasted(capsys) -> None:
    assert main(["train", "https://example.org/a;touch x/$(touch y).zip"]) == 2
    told = capsys.readouterr().err.partition("remedy:")[2].strip()
    assert shlex.split(told)[:5] == [
        "curl", "-fL", "https://example.org/a;touch x/$(touch y).zip", "-o", "$(touch y).zip",
    ]  # fmt: skip
