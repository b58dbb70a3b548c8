"""What helps without training again is said where validation shows it, and nowhere else."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from remedies_tried import try_command
from striate.errors import UsageError
from striate.evaluation.evaluate import evaluate_trained
from striate.inference.predictor import plain_predictor
from striate.records import Interval
from striate.report.offers import temperature_offer, views_offer
from striate.statistics.calibration import Temperature
from striate.training.config import Config
from striate.training.prepare import Prepared, prepare
from striate.training.request import merge_request

RUN = Path("a run")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Dark and bright pictures, each a little brighter on one side, which a linear network takes for the class."""
    folder, made = tmp_path_factory.mktemp("sides"), np.random.default_rng(0)
    for name, level in (("bright", 118), ("dark", 110)):
        (folder / name).mkdir()
        for number in range(200):
            sides = level + made.normal(0, 10) * np.sign(np.arange(8) - 3.5)
            pixels = np.clip(sides + made.normal(0, 2, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    fields = {"model.name": "fc(2)", "execution.plan": "plain", "data.val_fraction": 0.3}
    prepared = prepare(merge_request(Config(), data=str(folder), epochs=1, fields=fields))
    (linear,) = (part for part in prepared.state.module.modules() if isinstance(part, torch.nn.Linear))
    with torch.no_grad():
        linear.bias.zero_()
        whole = torch.ones(8, 8) + 0.5 * torch.sign(torch.arange(8) - 3.5)
        linear.weight.copy_(torch.stack([whole.flatten(), -whole.flatten()]) / 16)
    return prepared


def _offered(prepared: Prepared) -> list[str]:
    trained, data = prepared.trained(), prepared.data
    val = evaluate_trained(trained, data, "val")
    return list(views_offer(RUN, trained, data, val, plain_predictor(trained.module), 64))


def test_mirror_images_are_offered_where_they_help_validation(pictures: Prepared) -> None:
    [offer] = _offered(pictures)
    assert "120 validation samples" in offer
    assert "predictions: accuracy" in offer  # unless its text is the same
    command = offer.partition("striate ")[2]
    assert shlex.split(command)[-2:] == ["--views", "mirror"]
    try_command(shlex.split(command))


def test_mirror_images_are_not_offered_where_they_do_not(pictures: Prepared) -> None:
    (linear,) = (part for part in pictures.state.module.modules() if isinstance(part, torch.nn.Linear))
    before = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.copy_(before.view(2, 8, 8).mean(2, keepdim=True).expand(2, 8, 8).reshape(2, 64))
    try:
        assert _offered(pictures) == []
    finally:
        with torch.no_grad():
            linear.weight.copy_(before)


def test_a_temperature_is_offered_where_it_is_certain(pictures: Prepared) -> None:
    task, val = pictures.task, evaluate_trained(pictures.trained(), pictures.data, "val")
    certain = Temperature(1.8, Interval(1.4, 2.3, 0.95, "likelihood ratio"), "val", 120, 0.6, 0.5)
    [offer] = temperature_offer(RUN, task, val, certain)
    assert "too high" in offer
    assert offer.endswith("striate predict 'a run' FILES --calibrated")
    doubtful = replace(certain, interval=Interval(0.8, 2.3, 0.95, "likelihood ratio"))
    assert temperature_offer(RUN, task, val, doubtful) == ()
    assert temperature_offer(RUN, task, val, None) == ()
    assert temperature_offer(RUN, task, val, replace(certain, few="only 3 of them are of dark")) == ()


def test_views_are_for_pictures(pictures: Prepared) -> None:
    trained = pictures.trained()
    assert trained.with_views("mirror").views == "mirror"
    table = replace(trained, preparation=replace(trained.preparation, kind="table"))
    with pytest.raises(UsageError, match="leave out --views"):
        table.with_views("mirror")
