"""`striate models`: the list, one network in full, ImageNet's progress."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from striate.cli import main
from striate.cli.models import comparable_error, model_list
from striate.models.catalog.history import HISTORY
from striate.models.registry import GROUPS, MODELS, PublishedError
from striate.wording import scaled


def printed(capsys, *words: str) -> str:
    assert main(["models", *words]) == 0
    out, err = capsys.readouterr()
    assert not err
    return out


def test_every_network_has_a_line_of_at_most_80_letters(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # where nothing is cut
    lines = printed(capsys).splitlines()
    assert max(map(len, lines)) <= 80
    for info in MODELS.values():
        (line,) = (line for line in lines if line.startswith(f"  {info.name} "))
        assert line.split()[1:3] == [str(info.year), f"{info.published_parameters:,}"]
        assert scaled(info.published_macs) in line
        assert ("[" in line) == bool(info.errors)
    assert all(any(line.strip() == group for line in lines) for group in GROUPS)


def test_every_error_has_its_source_below_the_list() -> None:
    _, notes = model_list(GROUPS)
    words = " ".join(notes.split())
    for info in MODELS.values():
        error = comparable_error(info)
        if error is not None:
            assert f"{error.of}: {error.source}" in words
            assert 0 < (error.top5 or error.top1) < 100


def test_the_error_that_is_listed_is_that_of_one_network_and_one_crop() -> None:
    ensemble = PublishedError(None, 6.67, "test, 7 networks, 144 crops", "paper")
    ten = PublishedError(40.7, 18.2, "validation, one network, 10 crops", "paper")
    single = PublishedError(22.4, 6.9, "validation, one network, 1 crop", "paper")
    kept = PublishedError(30.2, 10.5, "validation, one central crop of 224", "torchvision 0.29, weights")

    def listed(*errors: PublishedError, weights: str = "torchvision") -> PublishedError | None:
        return comparable_error(replace(MODELS["mlp"], errors=errors, weights=weights))

    assert listed(ensemble, ten, single, kept) is kept
    assert listed(ensemble, ten, single, kept, weights="") is single
    assert listed(ensemble, ten, single) is single
    assert listed(ensemble, ten) is ensemble
    assert listed() is None


@pytest.mark.each_nth(6)
@pytest.mark.parametrize("name", MODELS)
def test_one_network_in_full(capsys, name: str) -> None:
    info, text = MODELS[name], printed(capsys, name)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for part in (f"{name} ({info.year})", info.description, info.source, info.signature, info.small_form):
        assert " ".join(part.split()) in words
    for number in (info.published_parameters, info.published_macs, info.outputs):
        assert f"{number:,}" in words
    for error in info.errors:
        assert f"on {error.of} ({error.source})" in words
    assert ("--weights FILE" in words) == bool(info.weights)
    assert ("local-rule" in words) >= info.local_rule


def test_the_document_has_everything(capsys) -> None:
    rows = {row["name"]: row for row in json.loads(printed(capsys, "--json"))}
    assert set(rows) == set(MODELS)
    for name, row in rows.items():
        info = MODELS[name]
        assert (row["params"], row["macs"]) == (info.published_parameters, info.published_macs)
        assert row["input_shape"] == list(info.input_shape)
        assert [error["top5"] for error in row["errors"]] == [error.top5 for error in info.errors]
        assert [a["name"] for a in row["arguments"]] == [p.name for p in info.parameters]
    assert json.loads(printed(capsys, "mlp", "--json")) == rows["mlp"]
    assert "default" not in rows["mlp"]["arguments"][0]


def test_progress_is_a_table_with_every_source(capsys) -> None:
    text = printed(capsys, "--history")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(text.split())
    for result in HISTORY:
        assert f"{result.year} {result.team}: {result.source}" in words
        assert any(f"{result.network} " in line and f"{result.top5:g}" in line for line in lines)
    bars = [line.count("█") for line in lines[1 : len(HISTORY) + 1]]
    assert bars[0] == max(bars) > bars[3] > bars[7] > bars[-1]
    assert json.loads(printed(capsys, "--history", "--json"))[-1]["top5"] == 2.25


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("ending", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_progress_is_drawn_and_not_over_another_picture(capsys, ending: str, begins: bytes) -> None:
    file = Path(f"progress{ending}")
    assert main(["models", "--history", "--json", "--out", str(file)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert file.name in err
    assert file.read_bytes().startswith(begins)
    first = file.read_bytes()
    assert main(["models", "--history", "--out", str(file)]) == 2
    assert main(["models", "--history", "--out", str(file), "--force"]) == 0
    assert file.read_bytes() == first


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "words",
    [
        ["resnet18(wdth=3)"],
        ["vgg_16"],
        ["--out", "x.png"],
        ["--force"],
        ["mlp", "--history"],
        ["mlp", "--out", "x.png"],
    ],
)
def test_what_cannot_be_asked_gets_a_remedy_that_works(capsys, words: list[str]) -> None:
    assert main(["models", *words]) == 2
    err = capsys.readouterr().err
    remedy = shlex.split(err.rpartition("remedy:")[2])
    assert main(["models", *remedy[1:]] if remedy[0] == "write" else remedy[1:]) == 0


def test_the_lists_load_no_torch() -> None:
    lists = "main(['models']); main(['models', '--history'])"
    code = f"import sys; from striate.cli import main; {lists}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_network_with_arguments_is_shown_with_what_that_form_costs(capsys) -> None:
    published = MODELS["alexnet-2012"]
    out = printed(capsys, "alexnet-2012(groups=1)")
    assert f"{published.published_parameters:,}" in out
    assert "62,378,344 parameters" in out
    assert "this form" not in printed(capsys, "alexnet-2012")
    document = json.loads(printed(capsys, "alexnet-2012(groups=1)", "--json"))
    assert (document["written"], document["params"], document["macs"]) == (
        "alexnet-2012(groups=1)",
        62378344,
        1135256096,
    )
    assert document["published"] == {"params": published.published_parameters, "macs": published.published_macs}
