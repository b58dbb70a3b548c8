"""Captions as a task: their words, what the network learns of them, and what it says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from striate.cli import main
from striate.data.annotations.captions import LETTERS, caption_rows, captions_in, words_of
from striate.data.augment.warp import Warp
from striate.data.dataset import SampleFacts
from striate.statistics.intervals import wilson
from striate.tasks.caption.assess import caption_words, estimates, image_rows, metrics_of
from striate.tasks.caption.baselines import captions_as_predictions
from striate.tasks.caption.head import CaptionNetwork
from striate.tasks.caption.show import caption_sections
from striate.tasks.caption.task import Caption
from striate.tasks.evaluation import Evaluation
from striate.visualize.word_pictures import grid_of

WORDS = ("a", "red", "blue", "square", "circle", "left", "of")


def targets_of(*captions: list[str], most: int = 16) -> torch.Tensor:
    """(N, most, LETTERS) of the captions of each image."""
    return torch.from_numpy(np.stack([caption_rows([words_of(text) for text in own], most) for own in captions]))


@pytest.fixture(scope="module")
def network() -> CaptionNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        return CaptionNetwork(body, (3, 16, 24), WORDS, longest=7, beam=3).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("different", "said"), [(1, "1 caption for 12 images."), (3, "3 different captions for 12")])
def test_a_single_caption_is_not_called_different(different: int, said: str) -> None:
    (section,) = caption_sections(SimpleNamespace(worst=(), different=different, n=12), "test split")
    assert said in section.sentences[0]


def test_words_of_a_caption() -> None:
    assert words_of("A dog's T-shirt, 2 feet away… (it’s RED!) .") == [
        "a",
        "dog's",
        "t-shirt",
        "2",
        "feet",
        "away",
        "it's",
        "red",
    ]
    assert words_of("Üben – cafe\u0301") == ["üben", "café"]
    assert words_of(" . ") == []
    assert words_of("ß" * 20) == ["ß" * 12], "24 bytes, never a part of a letter"


def test_rows_of_captions_are_read_again() -> None:
    own = [["a", "red", "square"], ["üben"]]
    rows = caption_rows(own, 9)
    assert rows.shape == (9, LETTERS)
    assert captions_in(rows) == own
    assert captions_in(rows[:0]) == []


def test_what_is_not_there_counts_for_nothing(network: CaptionNetwork, images: torch.Tensor) -> None:
    """Padding changes neither log-probabilities nor their weight; captions of an image do not see one another."""
    task = Caption(WORDS, 7, 3)
    short, long = (
        targets_of(["a red square"], ["a blue circle", "a square left of a circle"], most=11),
        targets_of(["a red square"], ["a blue circle", "a square left of a circle"], most=40),
    )
    with torch.no_grad():
        one, other = network(images, short)["truth"], network(images, long)["truth"]
        alone = network(images[1:], targets_of(["a square left of a circle"]))["truth"]
    assert torch.equal(one != 0, short[..., 0] != -1)
    torch.testing.assert_close(one, other[:, :11])
    torch.testing.assert_close(alone[0, :7], one[1, 4:11])
    assert float(task.weight(short)) == float(task.weight(long)) == 4 + 4 + 7
    assert float(task.loss_sum({"truth": one}, short)) == pytest.approx(-float(one.sum()))


def test_an_unknown_word_is_one_of_the_vocabulary_never_said(network: CaptionNetwork, images: torch.Tensor) -> None:
    numbers = network.numbers(targets_of(["a zebra left"])[0])
    assert numbers[:4].tolist() == [2, 1, 7, 0]
    with torch.no_grad():
        zebra, giraffe = (network(images[:1], targets_of([f"a {word} left"]))["truth"] for word in ("zebra", "giraffe"))
        said = caption_words(network(images)["predicted"])
    assert torch.equal(zebra, giraffe)
    assert {word for words in said for word in words} <= set(WORDS)


def test_what_is_said_has_the_probability_of_teacher_forcing(network: CaptionNetwork, images: torch.Tensor) -> None:
    with torch.no_grad():
        predicted = network(images)["predicted"]
        said = [[" ".join(words)] for words in caption_words(predicted)]
        truth = network(images, targets_of(*said))["truth"]
    torch.testing.assert_close(predicted[..., LETTERS].sum(1), truth.sum(1))
    cells = predicted[0, : len(said[0][0].split()), LETTERS + 1 :]
    torch.testing.assert_close(cells.sum(1), torch.ones(len(cells)))
    assert grid_of(cells.shape[1], (16, 24)) == (8, 12)


def test_the_search_finds_what_is_most_probable(network: CaptionNetwork, images: torch.Tensor) -> None:
    """With three words at most, all captions can be tried."""
    from itertools import product

    small = CaptionNetwork(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), (3, 16, 24), WORDS[:3], 2, 12).eval()
    captions = [[" ".join(words)] for length in (1, 2) for words in product(WORDS[:3], repeat=length)]
    with torch.no_grad():
        truth = small(images[:1].expand(len(captions), -1, -1, -1), targets_of(*captions))["truth"].sum(1)
        lengths = torch.tensor([len(own[0].split()) + 1 for own in captions])
        predicted = small(images[:1])["predicted"]
    best = captions[int((truth / lengths**0.7).argmax())][0]
    assert " ".join(caption_words(predicted)[0]) == best


def test_gradients_reach_all_weights_and_only_true_words_teach(network: CaptionNetwork, images: torch.Tensor) -> None:
    found = network(images, targets_of(["a red square"], ["a blue circle"]))
    assert list(found) == ["truth"], "nothing is generated in a training step"
    (-found["truth"].sum()).backward()
    missing = [name for name, weight in network.named_parameters() if weight.grad is None]
    network.zero_grad()
    assert missing == []


def test_left_and_right_change_places_in_mirrored_images() -> None:
    task, targets = Caption(WORDS, 7), targets_of(["a square left of a circle"], ["right below"])
    none, every = torch.tensor([False, False]), torch.tensor([True, True])
    shift = torch.zeros(2, 2, dtype=torch.int64)
    mirrored = task.warp_targets(targets, Warp(every, shift))
    assert [captions_in(own) for own in mirrored.numpy()] == [
        [["a", "square", "right", "of", "a", "circle"]],
        [["left", "below"]],
    ]
    assert torch.equal(task.warp_targets(mirrored, Warp(every, shift)), targets)
    down = task.warp_targets(targets, Warp(none, shift, vertical_flip=every))
    assert captions_in(down[1].numpy()) == [["right", "above"]]


def test_figures_follow_from_what_is_said() -> None:
    said = captions_as_predictions([["a", "red", "square"], ["a", "blue", "circle", "left"], []])
    true = targets_of(["a red square", "a box"], ["a blue circle right"], ["a red circle"])
    found = metrics_of(image_rows(said, true).sum(0))
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["rouge_l"] == pytest.approx((1 + 0.75 + 0) / 3)
    assert found["bleu4"] == 0
    assert Caption(WORDS).measure(said, true) == found
    assert Caption(WORDS).describe(said[1])["caption"] == "a blue circle left"
    same = estimates(np.repeat(image_rows(said, true), 10, axis=0), ["p", "q", "r"] * 10)
    exact = same.pop("exact_match").interval
    assert exact == replace(wilson(1, 3), method="Wilson over 3 groups")
    assert all(figure.interval is None for figure in same.values()), "three groups are too few"


def test_bleu_of_captions_without_four_words_is_said_to_compare_nothing() -> None:
    said, true = captions_as_predictions([["a", "red", "box"]] * 24), targets_of(*[["a red box"], ["a box"]] * 12)
    task, decoded = Caption(WORDS), np.asarray(said)
    ends = task.interval(decoded, true)
    assert [key for key, value in ends.items() if value is None] == ["bleu4_interval"]
    assert set(ends) == {"bleu4_interval", "cider_interval", "rouge_l_interval", "exact_match_interval"}
    assert ends["exact_match_interval"] == [wilson(12, 24).low, wilson(12, 24).high]
    metrics = task.measure(said, true)
    found = Evaluation("made", "test", "caption", (), 24, metrics, decoded, np.asarray(true), np.arange(24))
    assert "BLEU-4 is 0 for every prediction" in task.prediction_findings(found)[-1].measured
    facts = SampleFacts(tuple(map(str, range(24))))
    assert any("has four words" in line for line in task.assess(found, facts, None, ()).left_out)
    longer = replace(found, targets=np.asarray(targets_of(*[["a red box here"]] * 24)))
    assert "BLEU-4 is 0: no predicted caption" in task.prediction_findings(longer)[-1].measured
    longer = replace(longer, decoded=np.asarray(captions_as_predictions([["here", "is", "a", "box"]] * 24)))
    assert not any("BLEU" in finding.measured for finding in task.prediction_findings(longer))


def _scenes(folder: Path, count: int = 60) -> Path:
    rng, rows = np.random.default_rng(0), ["path,caption,split"]
    for number in range(count):
        kind = number % 3
        image = rng.integers(0, 60, (16, 16, 3))
        image[4:12, 4:12, kind] += 150
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number:02}.png")
        name = ("red", "green", "blue")[kind]
        split = "test" if number % 5 == 4 else "train"
        rows += [f"{number:02}.png,a {name} square,{split}", f'{number:02}.png,"This is {name}.",{split}']
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder / "captions.csv"


@pytest.mark.slow
def test_a_training_from_a_manifest_to_an_explained_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, run = _scenes(tmp_path), tmp_path / "run"
    words = ["--model", "conv(8,3,pad=1) bn relu pool(2) conv(16,3,pad=1) bn relu", "--plan", "plain", "--epochs", "12"]
    assert main(["train", str(source), *words, "--batch", "12", "--optim.lr", "0.01", "--out", str(run)]) == 0
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert test["exact_match"] >= 0.9
    assert test["perplexity"] == pytest.approx(np.exp(test["loss"]))
    assert (run / "words.txt").read_text().split()[:2] == ["a", "is"]
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "04.png"), "--json", "--draw", str(tmp_path / "drawn")]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["caption"] in ("a green square", "this is green")
    assert 0 < line["probability"] <= 1
    with Image.open(line["drawn"]) as drawn:
        assert drawn.width > 300
    out = str(tmp_path / "e.html")
    assert main(["explain", str(run), str(tmp_path / "04.png"), "--part", "green", "--out", out, "--json"]) in (0, 1)
    assert "the word green" in capsys.readouterr().out
    assert main(["explain", str(run), str(tmp_path / "04.png"), "--part", "zebra"]) == 2
    assert main(["export", str(run), "--format", "onnx", "--out", str(tmp_path / "x.onnx")]) == 0
    shutil.rmtree(run)
