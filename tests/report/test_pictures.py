from __future__ import annotations

import numpy as np
from made_runs import classification, images, regression, segmentation

from striate.report.pictures import draw_answers, draw_curves


def names(pictures):
    return [picture.path.name for picture in pictures]


def test_each_task_has_its_pictures(tmp_path):
    assert names(draw_answers(tmp_path, classification(), images(60))) == [
        "confusion.png",
        "samples.png",
        "mistakes.png",
    ]
    assert names(draw_answers(tmp_path, classification())) == ["confusion.png"]
    assert names(draw_answers(tmp_path, regression())) == ["scatter.png"]
    assert names(draw_answers(tmp_path, segmentation(), images(6, 1, 8))) == ["masks.png"]
    assert draw_answers(tmp_path, segmentation()) == ()


def test_inputs_that_are_no_pictures_are_left_out(tmp_path):
    assert names(draw_answers(tmp_path, classification(), np.zeros((60, 13), np.float32))) == ["confusion.png"]
    assert names(draw_answers(tmp_path, classification(), np.zeros((60, 2, 5, 5), np.uint8))) == ["confusion.png"]


def test_captions_say_of_what_and_how_chosen(tmp_path):
    confusion, samples, mistakes = draw_answers(tmp_path, classification(), images(60))
    of = "flow<er>s, test split, n = 60"
    assert all(of in picture.caption for picture in (confusion, samples, mistakes))
    assert "15 drawn at random" in samples.caption
    wrong = 60 - round(60 * classification().metrics["accuracy"])
    assert f"the {min(15, wrong)} of {wrong} mistakes made with the most confidence" in mistakes.caption


def test_without_mistakes_there_is_no_picture_of_them(tmp_path):
    assert "mistakes.png" not in names(draw_answers(tmp_path, classification(right=1.0), images(60)))


def test_the_same_bytes_every_time(tmp_path):
    first, second = ([p.path.read_bytes() for p in draw_answers(tmp_path, classification(), images(60))] for _ in "ab")
    assert first == second


def test_curves_say_how_many_samples(tmp_path):
    sizes = {"train": 1200, "val": 20, "test": 7}
    rows = [{"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": 1.0}]
    picture = draw_curves(tmp_path, rows, metric="accuracy", data="digits", sizes=sizes, best_epoch=1)
    assert picture.caption.startswith("digits, train n = 1,200, val n = 20; 1 epoch.")
    assert "best epoch, 1," in picture.caption
