"""Explore's answers: which samples, in which order, how often confused, and where on the map."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix
from starlette.testclient import TestClient

from striate.api import evaluate, load
from striate.errors import DataError, RunError
from striate.lab.exploring.chosen_samples import RankedSamples
from striate.lab.exploring.run_samples import read_samples
from striate.lab.workbench import Lab
from striate.tasks.evaluation import Evaluation
from striate.tasks.segment.task import Segment

Open = Callable[..., TestClient]


@pytest.fixture(scope="module")
def truth(digits_run: Path) -> Evaluation:
    return evaluate(digits_run)


@pytest.fixture
def client(open_lab: Open, digits_run: Path) -> TestClient:
    return open_lab(digits_run)


def ask(client: TestClient, path: str, **values: Any) -> Any:
    answer = client.get(f"/api/explore/{path}", params=values)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_splits_and_classes_are_counted(client: TestClient, truth: Evaluation) -> None:
    about = ask(client, "about")
    test = next(one for one in about["splits"] if one["name"] == "test")
    assert test["n"] == sum(test["classes"]) == truth.n
    assert test["classes"] == np.bincount(truth.targets, minlength=10).tolist()
    assert about["classes"] == list("0123456789")


def test_the_matrix_is_that_of_scikit_learn(client: TestClient, truth: Evaluation) -> None:
    told = ask(client, "confusion", split="test")
    expected = confusion_matrix(truth.targets, truth.decoded.argmax(1), labels=range(10))
    assert told["counts"] == expected.tolist()
    assert told["accuracy"] == truth.metrics["accuracy"]
    assert told["interval"] == truth.metrics["accuracy_interval"]
    first = told["pairs"][0]
    np.fill_diagonal(expected, 0)
    assert first["n"] == expected[first["true"], first["said"]] == expected.max()


def test_a_cell_opens_the_images_behind_it(client: TestClient, truth: Evaluation) -> None:
    pair = ask(client, "confusion", split="test")["pairs"][0]
    behind = ask(client, "samples", split="test", true=pair["true"], said=pair["said"])
    assert behind["total"] == pair["n"]
    ids = {f"run#{k}" for k in truth.ids[(truth.targets == pair["true"]) & (truth.decoded.argmax(1) == pair["said"])]}
    assert {one["name"] for one in behind["samples"]} == ids
    assert {(one["label"], one["said"]) for one in behind["samples"]} == {(str(pair["true"]), str(pair["said"]))}


def test_the_surest_mistakes_and_the_least_sure_hits_come_first(client: TestClient, truth: Evaluation) -> None:
    said = truth.decoded.argmax(1)
    wrong = said != truth.targets
    mistakes = ask(client, "samples", split="test", show="mistakes", count=20)
    assert mistakes["total"] == wrong.sum()
    sure = [one["probability"] for one in mistakes["samples"]]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] == pytest.approx(truth.decoded.max(1)[wrong].max(), rel=0.01)
    hits = ask(client, "samples", split="test", show="unsure", count=20)
    assert hits["total"] == truth.n - wrong.sum()
    ordered = np.sort(truth.decoded[~wrong], axis=1)
    closest = int(truth.ids[~wrong][np.argmin(ordered[:, -1] - ordered[:, -2])])
    assert f"run#{closest}" in [one["name"] for one in hits["samples"][:3]]  # half precision may exchange neighbors
    assert all(one["right"] for one in hits["samples"])


def test_pages_are_the_whole_without_repetition(client: TestClient) -> None:
    names = [one["name"] for start in range(0, 130, 50) for one in ask_page(client, start)]
    assert len(set(names)) == len(names) == 130
    shown = client.get("/api/images/picture", params={"name": names[0]})
    assert Image.open(io.BytesIO(shown.content)).size == (8, 8)


def ask_page(client: TestClient, start: int) -> list[dict[str, Any]]:
    count = min(50, 130 - start)
    return list(ask(client, "samples", split="train", start=start, count=count)["samples"])


def test_answers_that_a_run_does_not_keep_are_computed(open_lab: Open, digits_run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(digits_run, bare)
    shutil.rmtree(bare / "predictions")
    kept, computed = (ask(open_lab(one), "confusion", split="test") for one in (digits_run, bare))
    assert (kept.pop("kept"), computed.pop("kept")) == (True, False)
    assert kept == computed
    train = ask(open_lab(bare), "samples", split="train", show="mistakes", count=1)
    assert train["total"] > 0


def test_kept_answers_of_other_classes_are_not_taken(open_lab: Open, digits_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(digits_run, other)
    path = other / "predictions" / "test.npz"
    arrays = dict(np.load(path))
    names = np.frombuffer("\0".join("abcdefghijkl").encode(), np.uint8)
    more = np.pad(arrays["log_probabilities"], ((0, 0), (0, 2)), constant_values=-1e4)
    said = np.full_like(arrays["predicted"], 11)
    np.savez_compressed(path, **arrays | {"classes": names, "log_probabilities": more, "predicted": said})
    told = [ask(open_lab(one), "confusion", split="test") for one in (digits_run, other)]
    assert [one.pop("kept") for one in told] == [True, False]
    assert told[0] == told[1]
    assert ask(open_lab(other), "samples", split="test", show="mistakes")["samples"]


def test_the_map_has_a_picture_and_an_answer_for_each_point(
    client: TestClient, digits_run: Path, truth: Evaluation
) -> None:
    told = ask(client, "map", split="test")
    assert len(told["points"]) == len(told["samples"]) == min(500, truth.n)
    assert told["samples"][0]["said"] is not None
    for place, near in enumerate(told["neighbors"]):
        assert len({place, *(other for other, _ in near)}) == 7
        assert [cosine for _, cosine in near] == sorted((cosine for _, cosine in near), reverse=True)
    sheet = np.asarray(Image.open(io.BytesIO(client.get("/api/explore/sheet?split=test").content)).convert("L"))
    place = 26
    high, wide = 8, 8
    top, left = place // told["across"] * high, place % told["across"] * wide
    number = int(told["samples"][place]["name"].removeprefix("run#"))
    trained = load(digits_run)
    shown = client.get("/api/images/picture", params={"name": f"run#{number}"})
    assert trained.preparation.input_shape == (1, 8, 8)
    np.testing.assert_array_equal(
        sheet[top : top + high, left : left + wide], np.asarray(Image.open(io.BytesIO(shown.content)))
    )


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "values",
    [{"split": "all"}, {"split": "../x"}, {"split": "test", "true": 10}, {"split": "test", "said": -1}],
)
def test_what_is_not_there_is_told(client: TestClient, values: dict[str, Any]) -> None:
    answer = client.get("/api/explore/samples", params=values)
    assert answer.status_code == 422
    assert answer.json()["error"]["remedy"]


def test_bad_counts_and_words_are_refused(client: TestClient) -> None:
    for values in ({"start": -1}, {"count": 1000}, {"show": "everything"}):
        assert client.get("/api/explore/samples", params={"split": "test"} | values).status_code == 422


def test_a_lab_without_a_run_and_data_that_have_changed(digits_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="without a run"):
        read_samples(Lab())
    changed = tmp_path / "changed"
    shutil.copytree(digits_run, changed)
    rows = (changed / "split.csv").read_text().splitlines(keepends=True)
    (changed / "split.csv").write_text("".join(rows[:-1]))
    with pytest.raises(RunError, match="a file that has changed"):
        read_samples(Lab(changed))
    (changed / "events.jsonl").unlink()  # an older run, which noted nothing
    with pytest.raises(DataError, match="or others"):
        read_samples(Lab(changed))


def test_the_colors_of_shown_masks_are_named() -> None:
    task = Segment(("background", "road", "tree"))
    masks = np.array([[[0, 1]], [[2, 255]]])
    ranked = RankedSamples(task, np.array([3, 5]), np.array([0.5, 0.7]), masks, np.zeros_like(masks))
    assert [name for name, _ in ranked.legend(np.array([5, 9]))] == ["tree"]
    assert [name for name, _ in ranked.legend(ranked.ids)] == ["road", "tree"]
