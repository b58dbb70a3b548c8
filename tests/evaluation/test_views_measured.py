"""Where answers are from several views, every figure says so, and evaluation and prediction agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from striate.data.dataset import Split
from striate.errors import ConfigError
from striate.evaluation.evaluate import evaluate_split, evaluate_trained
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.tasks.classify.decision import DecisionRule
from striate.tasks.classify.task import Classify
from striate.tasks.evaluation import summary_line
from striate.training.config import Config
from striate.training.loop import validate
from striate.training.prepare import Prepared, prepare
from striate.training.request import merge_request
from striate.training.trained import Trained, trained_from_dict

NETWORK = "conv(4,3) relu pool(2) fc(10)"


def prepared_with(views: str | None, data: str = "digits", **fields: object) -> Prepared:
    asked = {"model.name": NETWORK if data == "digits" else "auto", "evaluation.views": views} | fields
    return prepare(merge_request(Config(), data=data, epochs=1, fields=asked))


@pytest.fixture(scope="module")
def viewed() -> Prepared:
    return prepared_with("mirror-shift")


def by_hand(trained: Trained, raw: torch.Tensor) -> torch.Tensor:
    """Class probabilities from the mean of the logits of six views."""
    x = trained.normalization.on(trained.device, 4)(raw)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    weighted = [(x, 0.25), (padded[..., :-2, :-2], 0.125), (padded[..., 2:, 2:], 0.125)]
    with torch.no_grad():
        total = sum(w * (trained.module(v) + trained.module(v.flip(-1))) for v, w in weighted)
    return total.softmax(1)


def test_the_metrics_have_both_figures_and_the_number_of_views(viewed) -> None:
    trained = viewed.trained()
    trained.module.eval()
    split = viewed.data.splits["test"]
    evaluation = evaluate_trained(trained, viewed.data, "test")
    np.testing.assert_allclose(evaluation.decoded, by_hand(trained, split.inputs[:]), rtol=1e-4, atol=1e-6)
    assert evaluation.metrics["views"] == 6
    single = evaluate_trained(replace(trained, views="none"), viewed.data, "test").metrics
    assert evaluation.metrics["accuracy_one_view"] == pytest.approx(single["accuracy"])
    assert "views" not in single
    assert "accuracy_one_view" not in single
    assert "with test-time augmentation, 6 images each" in str(evaluation)
    assert "with test-time augmentation, 6 images each (without: " in summary_line(evaluation.metrics, Classify.metrics)
    assert "view" not in summary_line(single, Classify.metrics)


def test_validation_while_training_is_of_the_images_as_they_are(viewed) -> None:
    measured = validate(
        viewed.state.eval_module, viewed.objective, viewed.splits["val"], viewed.config, viewed.normalize
    )
    with_views = evaluate_trained(viewed.trained(), viewed.data, "val").metrics
    one_view = evaluate_trained(replace(viewed.trained(), views="none"), viewed.data, "val").metrics
    assert measured["accuracy"] == pytest.approx(with_views["accuracy_one_view"])
    assert measured["loss"] == pytest.approx(one_view["loss"], rel=1e-4)
    assert measured["loss"] != pytest.approx(with_views["loss"], rel=1e-4)


def test_predictions_are_from_the_views_of_the_checkpoint(viewed, tmp_path) -> None:
    save_checkpoint(tmp_path / "best.pt", viewed.checkpoint())
    saved = load_checkpoint(tmp_path / "best.pt", torch.device("cpu"))
    trained = trained_from_dict(saved, "best.pt", torch.device("cpu"))
    raw = viewed.data.splits["test"].inputs[:3]
    torch.testing.assert_close(trained.decode(raw), by_hand(trained, raw), rtol=1e-4, atol=1e-6)


def test_views_are_decided_said_and_warned_of(viewed) -> None:
    assert prepared_with(None).config.evaluation.views == "none"
    assert "predictions are the mean over 6 views of each image (evaluation.views mirror-shift)" in viewed.notes
    assert any("flips images, but training does not" in note for note in viewed.notes)
    assert not any(
        "flips images, but training does not" in n for n in prepared_with("mirror", **{"augment.flip": True}).notes
    )


def test_what_has_no_views_is_refused_where_the_user_wished_for_it_and_left_out_where_a_recipe_did() -> None:
    with pytest.raises(ConfigError, match="a table a sample") as caught:
        prepared_with("mirror", data="iris")
    assert caught.value.remedy == "leave out --evaluation.views"
    config = merge_request(Config(), data="iris", epochs=1, fields={"evaluation.views": "mirror"})
    assert prepare(replace(config, decided=("evaluation.views",))).config.evaluation.views == "none"


def test_one_view_is_decided_as_the_views_are() -> None:
    """Images that are their own mirror images: test-time augmentation changes nothing."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(200, generator=generator) < 0.2).long()
    gray = 100 + 60 * y.float() + 40 * torch.randn(200, generator=generator)
    images = gray.clamp(0, 255).to(torch.uint8).view(200, 1, 1, 1).expand(200, 1, 4, 4).contiguous()

    class Brightness(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.zeros(len(x)), (x.mean((1, 2, 3)) - 150) / 20], 1)

    task = Classify(("well", "ill"), rule=DecisionRule(costs=((1, 10.0),)))
    found = evaluate_split(
        Brightness(),
        task,
        Split(images, y, torch.arange(200)),
        normalize=lambda raw: raw.float(),
        device="cpu",
        data_name="gray",
        split_name="test",
        classes=("well", "ill"),
        views="mirror",
    ).metrics
    assert found["accuracy_one_view"] == found["accuracy"]
