from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from made_runs import classification, draw_answers, images, regression, segmentation
from PIL import Image

from striate.report.pictures import draw_curves
from striate.tasks.classify.metrics import ACCURACY
from striate.visualize.gallery import encode


def names(pictures):
    return [picture.path.name for picture in pictures]


@pytest.mark.slow
def test_each_task_has_its_pictures(tmp_path):
    assert names(draw_answers(tmp_path, classification(), images(60))) == [
        "confusion.png",
        "samples.png",
        "mistakes.png",
        "unsure.png",
    ]
    assert names(draw_answers(tmp_path, classification())) == ["confusion.png"]
    assert names(draw_answers(tmp_path, regression())) == ["scatter.png"]
    numbers = regression()
    ranked = ["scatter.png", "worst.png", "typical.png", "best.png"]
    assert names(draw_answers(tmp_path, numbers, images(numbers.n))) == ranked
    masks = ["masks.png", "worst.png", "typical.png", "best.png"]
    assert names(draw_answers(tmp_path, segmentation(), images(6, 1))) == masks
    assert draw_answers(tmp_path, segmentation()) == ()


def test_inputs_that_are_no_pictures_are_left_out(tmp_path):
    assert names(draw_answers(tmp_path, classification(), np.zeros((60, 13), np.float32))) == ["confusion.png"]
    assert names(draw_answers(tmp_path, classification(), np.zeros((60, 2, 5, 5), np.uint8))) == ["confusion.png"]


@pytest.mark.slow
def test_captions_say_of_what_and_how_chosen(tmp_path):
    confusion, samples, mistakes, unsure = draw_answers(tmp_path, classification(), images(60))
    of = "flow<er>s, test split, n = 60"
    assert all(of in picture.caption for picture in (confusion, mistakes, unsure, samples))
    assert "15 drawn at random" in samples.caption
    wrong = 60 - round(60 * classification().metrics["accuracy"])
    assert f"the {min(15, wrong)} of {wrong} mistakes with the highest confidence" in mistakes.caption
    assert (
        f"the 15 of {60 - wrong} correct predictions with the smallest margin over the second class" in unsure.caption
    )


@pytest.mark.slow
def test_galleries_are_made_of_samples_one_by_one(tmp_path):
    evaluation, pixels = classification(), images(60)
    paths = [f"photo {k}.png" for k in range(60)]
    _, _, mistakes, unsure = draw_answers(tmp_path, evaluation, pixels, names=paths)
    wrong = np.flatnonzero(evaluation.decoded.argmax(1) != evaluation.targets)
    assert {tile.name for tile in mistakes.tiles} <= {paths[k] for k in wrong}
    assert not any(tile.right for tile in mistakes.tiles)
    assert all(tile.right for tile in unsure.tiles)
    first = mistakes.tiles[0]
    number = paths.index(first.name)
    shown = np.asarray(Image.open(BytesIO(base64.b64decode(first.png))))
    assert (shown == pixels[number].transpose(1, 2, 0)).all()
    assert first.prediction.startswith(evaluation.classes[evaluation.decoded[number].argmax()])
    assert first.truth == evaluation.classes[evaluation.targets[number]]
    assert (first.width, first.height, first.enlarged) == (96, 96, True)


def test_large_images_are_made_smaller():
    large = np.random.default_rng(0).integers(0, 256, (3, 300, 200), dtype=np.uint8)
    png, width, height, enlarged = encode(large)
    assert (width, height, enlarged) == (64, 96, False)
    assert Image.open(BytesIO(base64.b64decode(png))).size == (64, 96)


def test_what_follows_by_the_least_lead_is_the_least_sure(tmp_path):
    sure = np.array([[0.51, 0.49, 0.0], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05]], np.float32)
    evaluation = replace(classification(("a", "b", "c"), n=3), decoded=sure, predicted=sure.argmax(1))
    evaluation = replace(evaluation, targets=np.zeros(3, np.int64))
    unsure = next(
        p for p in draw_answers(tmp_path, evaluation, images(3)) if p.title == "Least confident correct predictions"
    )
    assert [tile.prediction for tile in unsure.tiles] == ["a, 51.0 %", "a, 40.0 %", "a, 90.0 %"]


@pytest.mark.slow
def test_without_mistakes_there_is_no_picture_of_them(tmp_path):
    assert "mistakes.png" not in names(draw_answers(tmp_path, classification(right=1.0), images(60)))


@pytest.mark.slow
def test_the_same_bytes_every_time(tmp_path):
    first, second = ([p.path.read_bytes() for p in draw_answers(tmp_path, classification(), images(60))] for _ in "ab")
    assert first == second


def test_curves_say_how_many_samples(tmp_path):
    sizes = {"train": 1200, "val": 20, "test": 7}
    rows = [{"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": 1.0}]
    picture = draw_curves(tmp_path, rows, metric=ACCURACY, data="digits", sizes=sizes, best_epoch=1)
    assert picture.caption.startswith("digits, train n = 1,200, val n = 20; 1 epoch of training.")
    assert "best epoch, 1," in picture.caption
