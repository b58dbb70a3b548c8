"""`striate.api.predict_files`: what `striate predict` prints, in Python."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from striate.api import predict_files
from striate.data.dataset import Preparation
from striate.data.normalize import Normalization
from striate.errors import DataError, UsageError
from striate.tasks.classify.task import Classify
from striate.training.trained import Trained

CLASSES = ("dark", "bright")


def trained() -> Trained:
    """Tells dark pictures from bright ones."""
    module = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()).eval()
    with torch.no_grad():
        module[0].weight[0], module[0].weight[1] = -0.1, 0.1
        module[0].bias.zero_()
    normalization = Normalization((127.5,), (73.0,))
    return Trained(
        module, Classify(CLASSES), Preparation("image", (1, 8, 8)), normalization, CLASSES, torch.device("cpu")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """150 pictures, dark and bright in turn, but that the third is none; and a text."""
    made = tmp_path / "made"
    made.mkdir()
    for number in range(150):
        Image.fromarray(np.full((8, 8), 200 if number % 2 else 20, np.uint8)).save(made / f"{number:03}.png")
    (made / "002.png").write_bytes(b"no picture")
    (made / "about.txt").write_text("text", encoding="utf-8")
    return made


def test_every_file_is_answered_in_order_or_has_an_error(folder: Path) -> None:
    answers = predict_files(trained(), [folder])
    assert (len(answers), answers.ignored, answers.plan.backend.name) == (150, 1, "plain fp32")
    found = list(answers)
    assert [Path(answer.path).name for answer in found] == [f"{number:03}.png" for number in range(150)]
    assert found[2].prediction is None
    assert found[2].error
    labels = [answer.prediction.label for answer in found if answer.prediction is not None]
    assert labels == [CLASSES[number % 2] for number in range(150) if number != 2]
    assert [answer.path for answer in answers] == [answer.path for answer in found]  # once more, from the beginning


def test_a_sample_of_a_named_set_is_predicted_as_from_the_command_line() -> None:
    network = trained()
    (line,) = predict_files(network, ["digits#3"])
    assert line.prediction is not None
    alone, (listed, _) = network.predict("digits#3"), network.predict(["digits#3", np.zeros((8, 8), np.uint8)])
    assert alone.fields == line.prediction.fields
    assert listed.label == alone.label == alone.fields["label"]
    assert not hasattr(alone, "value")
    with pytest.raises(AttributeError, match="no 'boxes'; it has label, probability and top"):
        alone.boxes  # noqa: B018
    assert copy.deepcopy(alone).fields == alone.fields
    with pytest.raises(DataError, match="a number from 0 to 1796"):
        network.predict("digits#9999")


def test_threads_end_with_an_iteration_that_is_left_early(folder: Path) -> None:
    before = threading.active_count()
    answering = iter(predict_files(trained(), [str(folder / "001.png"), folder]))
    first = next(answering)
    assert first.prediction is not None
    assert first.prediction.label == "bright"
    answering.close()
    assert threading.active_count() == before


def test_what_cannot_be_answered_is_refused_at_once(folder: Path) -> None:
    with pytest.raises(UsageError, match="'palin'"):
        predict_files("no such run", [folder], plan="palin")
    for nothing in ([], [folder / "about"]):
        (folder / "about").mkdir(exist_ok=True)
        with pytest.raises(DataError, match="no images"):
            predict_files(trained(), nothing)
    table = replace(trained(), preparation=Preparation("table", (4,)))
    with pytest.raises(DataError, match="rows of 4 features"):
        predict_files(table, [folder])


def test_arrays_are_single_images_or_batches_by_their_shape() -> None:
    network = trained()
    gray = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    color = np.repeat(gray[..., None], 3, -1)
    expected = [one.fields for one in network.predict(list(gray))]
    batches = (gray, gray[:, None], gray[..., None], torch.from_numpy(gray), tuple(gray), iter(gray), color)
    for batch in (*batches, gray.astype(np.int64), color.transpose(0, 3, 1, 2)):
        assert [one.fields for one in network.predict(batch)] == expected
    assert [one.fields for one in network.predict(gray[:3])] == expected[:3]  # no image with three channels
    single = (gray[0], gray[:1], gray[0][..., None], color[0], torch.from_numpy(gray[0]).requires_grad_(False))
    for image in single:
        assert network.predict(image).fields == expected[0]
    assert network.predict([color[0].transpose(2, 0, 1)])[0].fields == expected[0]


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (None, "a NoneType"),
        ({"a": 1}, "a dict"),
        (np.array(["a"]), "a ndarray of type <U1"),
        (torch.zeros(8, 8, dtype=torch.bfloat16), "a Tensor of type torch.bfloat16"),
        (np.zeros((5, 9, 9), np.uint8), r"an array of shape \(5, 9, 9\) and type uint8"),
        (np.zeros((5, 9), bool), r"an array of shape \(5, 9\) and type bool"),
        (np.zeros((5, 9), np.float16), r"an array of shape \(5, 9\) and type float16"),
        (np.full((2, 8, 8), 16.0), r"an array of shape \(8, 8\) and type float64"),
    ],
)
def test_other_objects_are_refused_as_what_they_are(given: object, got: str) -> None:
    with pytest.raises(DataError, match=got):
        trained().predict(given)


@pytest.mark.parametrize(
    ("highest", "advice"),
    [
        (0.99, "(255 * x).round().astype('uint8')"),
        (200.5, "x.round().astype('uint8')"),
        (1600, "scale the values to 0 to 255"),
        (np.nan, "replace NaN and Inf"),
    ],
)
def test_how_values_become_bytes_depends_on_their_range(highest: float, advice: str) -> None:
    x = np.full((8, 8), highest)
    with pytest.raises(DataError) as caught:
        trained().predict(x)
    assert advice in caught.value.remedy
    assert ("NaN" if np.isnan(highest) else f"{highest:g}") in caught.value.got
    if "uint8" in advice:
        code = caught.value.remedy.partition("predict(")[2][:-1]
        assert trained().predict(eval(code, {"x": x})).label


def test_a_folder_given_as_one_image_is_refused_with_the_function_that_takes_it(folder: Path) -> None:
    with pytest.raises(DataError, match="a folder") as caught:
        trained().predict(folder)
    assert caught.value.remedy == f"striate.api.predict_files(trained, [{str(folder)!r}])"
