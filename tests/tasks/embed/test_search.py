"""Search, match and the lists of a folder, by a run of embeddings and by a classifier."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from striate import explain, load, match, show
from striate.cli import main
from striate.errors import DataError, UsageError
from striate.evaluation.similarity.nearest import prepare_search, search_exactly
from striate.runs.directory import open_run
from striate.runs.events import read_notes
from striate.training.config_file import config_from_yaml
from striate.training.request import merge_request

NETWORK = "conv(8,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu gap fc(16)"


def _folder(folder: Path) -> Path:
    """Eight colors, ten images each."""
    rng = np.random.default_rng(0)
    for number in range(80):
        pixels = rng.integers(0, 40, (12, 12, 3)) + np.array([(number >> bit & 1) * 180 for bit in range(3)])
        (folder / f"c{number % 8}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"c{number % 8}" / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _folder(tmp_path_factory.mktemp("search") / "photos")


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("searched") / "run"
    words = ["train", str(photos), "--task", "embed", "--task.dimensions", "16", "--model", NETWORK]
    words += ["--epochs", "4", "--batch", "16", "--plan", "plain", "--task.loss", "supcon", "--out", str(out)]
    with torch.random.fork_rng():
        assert main(words) == 0
    return out


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Any]]:
    def call(*words: object, code: int = 0) -> list[Any]:
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == code
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


def test_the_classes_of_a_split_are_those_that_it_has(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["eval", str(run)]) == 0
    assert "test split: 20 samples, 2 classes" in capsys.readouterr().out
    cut = next(note for note in read_notes(open_run(run)) if note.startswith("Splits: "))
    assert cut.startswith("Splits: val (2 of 8 classes) and test (2 of 8 classes) taken from the data, chosen as whole")
    config = config_from_yaml(open_run(run).config)
    assert {"task.mirrored", "task.turned_classes"} <= set(config.decided)
    assert isinstance(config.task.mirrored, bool)
    other = merge_request(config, fields={"task.loss": "arcface"})
    assert (other.task.mirrored, other.task.turned_classes) == (None, None)


def test_other_files_are_told_in_the_words_of_the_medium(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "notes.txt").write_text("none")
    query = str(photos / "c0" / "00.png")
    assert main(["search", "--in", str(tmp_path / "photos"), str(run), query]) == 0
    assert "1 other file ignored: their suffixes are not those of images" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vectors"


def test_the_most_similar_files_are_of_the_class(run: Path, photos: Path, lines, cache: Path, capsys) -> None:
    query = photos / "c3" / "03.png"
    (found,) = lines("search", run, query, "--in", photos, "--top", 4)
    assert found["query"] == str(query)
    assert [Path(path).parent.name for path, _ in found["hits"]] == ["c3"] * 4
    assert str(query) not in [path for path, _ in found["hits"]], "its own file is left out"
    similar = [value for _, value in found["hits"]]
    assert similar == sorted(similar, reverse=True)
    stored = next(cache.glob("*.npz"))
    before = stored.read_bytes()
    assert lines("search", run, query, "--in", photos, "--top", 4) == [found], "from the cache"
    assert stored.read_bytes() == before
    stored.write_bytes(before[:100])  # damaged
    assert lines("search", run, query, "--in", photos, "--top", 4) == [found]
    assert main(["search", str(run), str(query), "--in", str(photos)]) == 0
    out, err = capsys.readouterr()
    assert "searched exactly" in err
    assert len(out.splitlines()) == 6


def test_a_changed_file_has_another_vector(run: Path, photos: Path, lines, tmp_path: Path) -> None:
    own = _folder(tmp_path / "own")
    query = photos / "c1" / "01.png"
    (before,) = lines("search", run, query, "--in", own, "--top", 80)
    changed = own / "c1" / "09.png"
    Image.open(own / "c6" / "06.png").save(changed)
    (after,) = lines("search", run, query, "--in", own, "--top", 80)
    assert dict(before["hits"])[str(changed)] > dict(after["hits"])[str(changed)]
    unread = tmp_path / "own" / "broken.png"
    unread.write_bytes(b"no picture")
    found = lines("search", run, query, tmp_path / "none.png", "--in", own, code=1)
    assert "error" in found[1]


def test_copies_and_what_does_not_belong_are_listed(run: Path, lines, tmp_path: Path) -> None:
    own = tmp_path / "own"
    _folder(own)
    copy = own / "copy.png"
    copy.write_bytes((own / "c2" / "02.png").read_bytes())
    stripes = np.zeros((12, 12, 3), np.uint8)
    stripes[::2, :, 0] = 255
    Image.fromarray(stripes).save(own / "odd.png")
    found = lines("search", run, "--in", own, "--alike", 3, "--outliers", 5)
    assert {str(copy), str(own / "c2" / "02.png")} == set(found[0]["pair"])
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert str(own / "odd.png") in [line["outlier"] for line in found[3:]]


def test_match_says_what_the_threshold_of_validation_says(run: Path, photos: Path, lines) -> None:
    validation = json.loads((run / "evaluation.json").read_text())["splits"]["val"]
    (same,) = _document(lines, run, photos / "c5" / "05.png", photos / "c5" / "13.png")
    (other,) = _document(lines, run, photos / "c5" / "05.png", photos / "c2" / "02.png")
    assert same["threshold"] == other["threshold"] == validation["threshold"]
    assert same["same"]
    assert same["probability"] > 0.5 > other["probability"]
    assert not other["same"]
    assert same["similarity"] > same["threshold"] > other["similarity"]
    trained, own = load(run), sorted((photos / "c5").iterdir())
    assert max(match(trained, one, one).similarity for one in own) <= 1


def test_one_picture_is_enough_to_be_searched_and_a_folder_of_queries_is_its_files(
    run: Path, photos: Path, lines, tmp_path: Path, capsys
) -> None:
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(photos / "c0" / "00.png", one / "here.png")
    queries = tmp_path / "queries"
    for k in (1, 2):
        shutil.copytree(photos / f"c{k}", queries / f"c{k}")
    found = lines("search", run, queries, "--in", one)
    assert sorted(line["query"] for line in found) == sorted(map(str, queries.rglob("*.png")))
    assert {path for line in found for path, _ in line["hits"]} == {str(one / "here.png")}
    (tmp_path / "empty").mkdir()
    for words, said in (
        (["--in", one, "--alike", 2], "a folder with two pictures or more"),
        ([one / "here.png", "--in", one / "here.png"], f"--in {one}"),
        ([tmp_path / "empty", "--in", one], "a folder without pictures"),
    ):
        assert main(["search", str(run), *map(str, words)]) == 2
        assert said in capsys.readouterr().err


def test_a_broken_picture_and_a_missing_one_are_mended_otherwise(run: Path, photos: Path, tmp_path: Path) -> None:
    whole, broken = photos / "c0" / "00.png", tmp_path / "broken.png"
    broken.write_bytes(whole.read_bytes()[:100])
    for path, remedy in ((broken, "replace the file"), (tmp_path / "none.png", "check the path")):
        with pytest.raises(DataError) as caught:
            match(run, path, whole)
        assert caught.value.remedy.startswith(remedy)


def test_the_map_of_embeddings_is_of_these(run: Path) -> None:
    shown = show(run, "embedding")
    assert (shown.record.pca.source, shown.record.pca.features) == ("embeddings", 16)
    with pytest.raises(UsageError, match="leave out layer"):
        show(run, "embedding", layer="normalize")


def test_units_that_are_no_classes_are_not_named_as_such(run: Path) -> None:
    shown = show(run, "maximize")
    first = shown.figure.axes[0].get_xlabel()
    assert first.startswith(f"unit {shown.record.units[0]}\n")


def test_neighbors_of_an_explanation_are_those_of_the_embedding(run: Path, photos: Path) -> None:
    nearest = explain(run, photos / "c0" / "00.png").nearest
    assert nearest.source == "embeddings"
    assert len(nearest.neighbors) == 6


def test_the_interval_of_the_threshold_says_of_what_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["eval", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(k for k, line in enumerate(lines) if line.startswith("  threshold"))
    assert "interval" not in lines[place]
    assert lines[place + 1].startswith("    by this split alone: 95 % interval ")
    assert next(line for line in lines if line.startswith("  recall@1")).endswith("(Wilson)")
    assert "95 % interval by this split alone" in (run / "report.html").read_text(encoding="utf-8")


def _document(lines, run: Path, one: Path, other: Path) -> list[Any]:
    return [match(run, one, other).to_json()]


def test_embeddings_of_a_folder_are_written(run: Path, photos: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "vectors.npz"
    assert main(["predict", str(run), str(photos), "--out", str(out)]) == 0
    with np.load(out, allow_pickle=False) as saved:
        assert saved["embedding"].shape == (80, 16)
        assert np.linalg.norm(saved["embedding"], axis=1) == pytest.approx(1, abs=1e-5)
        assert saved["path"][0] == str(photos / "c0" / "00.png")
    assert main(["predict", str(run), str(photos), "--out", str(out)]) == 2
    assert "which exists" in capsys.readouterr().err


def test_a_classifier_is_searched_and_not_matched(photos: Path, tmp_path: Path, lines, capsys) -> None:
    out = tmp_path / "classes"
    words = ["train", str(photos), "--model", NETWORK.replace("fc(16)", "fc(8)"), "--epochs", "1", "--plan", "plain"]
    with torch.random.fork_rng():
        assert main([*words, "--batch", "16", "--out", str(out)]) == 0
    (found,) = lines("search", out, photos / "c4" / "04.png", "--in", photos, "--top", 3)
    assert len(found["hits"]) == 3
    capsys.readouterr()
    assert main(["match", str(out), str(photos / "c4" / "04.png"), str(photos / "c4" / "12.png")]) == 2
    assert "--task embed" in capsys.readouterr().err


def test_a_network_of_other_dimensions_names_the_option(photos: Path, capsys) -> None:
    words = ["train", str(photos), "--task", "embed", "--model", NETWORK, "--epochs", "1", "--out", "never"]
    assert main(words) == 2
    assert 'fc(128)", or --task.dimensions 16' in capsys.readouterr().err


def test_losses_that_compare_samples_need_whole_batches(photos: Path, capsys) -> None:
    words = ["train", str(photos), "--task", "embed", "--task.loss", "triplet", "--model", NETWORK, "--epochs", "1"]
    words += ["--task.dimensions", "16", "--execution.micro_batch", "8", "--batch", "16", "--out", "never"]
    assert main(words) == 2
    assert "whole batches" in capsys.readouterr().err


def test_batches_are_of_whole_classes(photos: Path, capsys) -> None:
    words = ["train", str(photos), "--task", "embed", "--task.dimensions", "16", "--model", NETWORK, "--epochs", "1"]
    assert main([*words, "--batch", "30", "--out", "never"]) == 2
    assert "--batch 32" in capsys.readouterr().err


def test_an_index_finds_what_the_exact_search_finds() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    said: list[str] = []
    index = prepare_search(vectors, said.append, exact=1000)
    assert index.recall is not None
    assert index.recall >= 0.99
    assert "recall@10" in index.line()
    assert said
    places, near = index.search(vectors[:50], 10)
    truth, cosines = search_exactly(vectors, vectors[:50], 10)
    assert (places == truth).mean() > 0.98
    assert near[:, 0] == pytest.approx(cosines[:, 0], abs=1e-5)
    again: list[str] = []
    assert prepare_search(vectors, again.append, exact=1000).recall == index.recall
    assert not again, "the index was cached"
    assert prepare_search(vectors).recall is None
    assert (truth == np.argsort(-(vectors[:50] @ vectors.T), axis=1, kind="stable")[:, :10]).mean() > 0.99
