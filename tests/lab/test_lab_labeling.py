"""Labels: what is doubted and why, which key gives which class, and the table that comes of it."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import striate
from striate.errors import DataError
from striate.lab.labeling.corrections_file import CorrectionsFile
from striate.lab.labeling.labels_page import keys_of
from striate.runs.directory import open_run
from striate.runs.predictions import read_predictions

Open = Callable[..., TestClient]


@pytest.fixture
def own_run(digits_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that may be written to."""
    return Path(shutil.copytree(digits_run, tmp_path / "own", ignore=shutil.ignore_patterns("plots", "report.html")))


def ask(client: TestClient, path: str, **values: Any) -> Any:
    answer = client.get(f"/api/labels/{path}", params=values)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tell(client: TestClient, path: str, /, **values: Any) -> Any:
    return client.post(f"/api/labels/{path}", json=values).json()


def table_of(run: Path) -> dict[str, str]:
    with (run / "labels.csv").open(newline="") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}


def test_a_run_without_classes_is_refused_before_anything_can_be_corrected(open_lab: Open, tmp_path: Path) -> None:
    rows = ["path,label"]
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number}.5")
    (tmp_path / "ages.csv").write_text("\n".join(rows) + "\n")
    fields = {"execution.plan": "plain", "task.name": "regress"}
    run = striate.train(tmp_path / "ages.csv", "gap fc(1)", epochs=1, out=tmp_path / "run", set=fields)
    client = open_lab(run.path)
    for error in (client.get("/api/labels/about").json(), tell(client, "correct", part="test", sample=0, label="new")):
        assert error["error"]["got"] == "numbers as annotations (task regress)"
    assert not (run.path / "labels.csv").exists()


def test_doubtful_labels_come_first_and_corrections_are_written_at_once(open_lab: Open, own_run: Path) -> None:
    client = open_lab(own_run)
    kept = read_predictions(open_run(own_run), "test")
    assert kept is not None
    queue = ask(client, "queue", part="test")
    margins = kept.predictions.max(1) - kept.predictions[np.arange(len(kept.ids)), kept.targets]
    assert queue["total"] == (margins > 0).sum()
    first, second, third = queue["samples"][:3]
    assert first["image"] == f"run#{kept.ids[margins.argmax()]}"
    assert "the network, which did not learn from it, gives" in first["why"]
    assert not (own_run / "labels.csv").exists()
    state = tell(client, "correct", part="test", sample=first["sample"], label="new one")
    assert (state["corrected"], state["kept"], state["left"], state["already"]) == (1, 0, 0, None)
    assert {"name": "new one", "key": "n"} in state["classes"]
    tell(client, "correct", part="test", sample=second["sample"], label=second["label"])
    tell(client, "correct", part="test", sample=third["sample"], label="")
    assert table_of(own_run) == {first["path"]: "new one", second["path"]: second["label"], third["path"]: ""}
    state = tell(client, "undo")
    assert (state["path"], state["corrected"], state["kept"], state["left"]) == (third["path"], 1, 1, 0)
    rest = ask(client, "queue", part="test", after=second["sample"])  # what is skipped does not come again
    assert [one["path"] for one in rest["samples"]] == [one["path"] for one in queue["samples"][2:]]
    assert rest["total"] == queue["total"] - 2
    again = ask(open_lab(own_run), "queue", part="test")  # after a restart what is done is done
    assert [one["path"] for one in again["samples"][:1]] == [third["path"]]
    refused = tell(client, "correct", part="test", sample=first["sample"], label="two\nlines")
    assert "on one line" in refused["error"]["expected"]
    assert table_of(own_run)[first["path"]] == "new one"


def test_the_command_is_shown_once_a_training_can_start_with_the_table(open_lab: Open, own_run: Path) -> None:
    client = open_lab(own_run)
    test, train = (ask(client, "queue", part=part)["samples"] for part in ("test", "train"))
    assert (ask(client, "about")["command"], ask(client, "about")["untrained"]) == (None, [])
    assert tell(client, "correct", part="test", sample=test[0]["sample"], label=test[0]["label"])["command"] is None
    state = tell(client, "correct", part="test", sample=test[1]["sample"], label="new one")
    assert (state["command"], state["untrained"]) == (None, ["new one"])
    state = tell(client, "correct", part="train", sample=train[0]["sample"], label="new one")
    assert state["command"] == f"striate train --from {own_run} --labels {own_run / 'labels.csv'} --epochs 5"
    assert state["untrained"] == []


def test_what_was_decided_in_another_page_stays_and_each_page_takes_back_its_own(open_lab: Open, own_run: Path) -> None:
    client = open_lab(own_run)
    first, second = ask(client, "queue", part="test")["samples"][:2]
    tell(client, "correct", part="test", sample=first["sample"], label="4")
    assert tell(client, "correct", part="test", sample=first["sample"], label="5")["already"] == "4"
    tell(client, "correct", part="test", sample=second["sample"], label="6")
    assert tell(client, "undo", path=first["path"])["path"] == first["path"]
    assert table_of(own_run) == {second["path"]: "6"}


def test_a_lab_without_a_run_says_what_labels_need(client: TestClient) -> None:
    error = client.get("/api/labels/about").json()["error"]
    assert (error["where"], error["expected"]) == ("labels", "the run whose labels are to be checked")


def test_unsure_answers_of_a_folder_without_labels(open_lab: Open, own_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (5, 8, 8), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    client = open_lab(own_run, folder)
    queue = ask(client, "queue", part="unlabeled", which="unsure")
    leads = [one["top"][0][1] - one["top"][1][1] for one in queue["samples"]]
    assert len(leads) == 5
    assert leads == sorted(leads)
    shown = client.get("/api/labels/picture", params={"sample": queue["samples"][0]["sample"]})
    assert Image.open(io.BytesIO(shown.content)).size == (8, 8)
    assert client.get("/api/labels/picture", params={"sample": 5}).status_code == 422
    tell(client, "correct", part="unlabeled", sample=queue["samples"][0]["sample"], label="3")
    assert table_of(own_run) == {queue["samples"][0]["path"]: "3"}


def test_training_samples_are_answered_by_a_model_that_had_not_seen_them(open_lab: Open, own_run: Path) -> None:
    queue = ask(open_lab(own_run), "queue", part="train")
    assert "from the other samples alone" in queue["by"]
    assert 0 < queue["total"] < queue["of"] / 5


@pytest.mark.parametrize(
    ("classes", "keys"),
    [
        (tuple("0123456789"), list("0123456789")),
        (("cat", "cow", "dog"), ["c", "o", "d"]),
        (("A", "a", "B"), ["A", "a", "B"]),
        (("12", "34"), ["1", "2"]),
    ],
)
def test_each_class_has_a_key_of_its_own(classes: tuple[str, ...], keys: list[str]) -> None:
    assert keys_of(classes) == keys


def test_the_table_begins_with_the_corrections_that_the_run_was_trained_with(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.csv"
    earlier.write_text("path,label\na/1.png,b\n")
    table = CorrectionsFile(tmp_path / "labels.csv", earlier)
    table.set("a/2.png", "it, said")
    assert table.labels() == {"a/1.png": "b", "a/2.png": "it, said"}
    table.undo()
    assert table.labels() == {"a/1.png": "b"}
    assert table.undo() is None
    with pytest.raises(DataError, match="the class"):
        table.set("a/2.png", "\x07")
