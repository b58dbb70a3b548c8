"""Training begins with weights that a name finds, and says whose they are; those in a cache are chosen."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

import striate
from striate.errors import StriateError
from striate.models.build import build_model
from striate.models.weights.named import Named
from striate.training.config_file import config_from_yaml
from striate.training.prepare import prepare
from striate.training.request import merge_request, read_config

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from a_hub import TIMM

NETWORK = "resnet18(width=2)"


@pytest.fixture
def put() -> Path:
    """What somebody put here by hand from timm's repository."""
    folder = Path("resnet18.tv_in1k")
    folder.mkdir()
    save_file(build_model(NETWORK, outputs=1000).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TIMM))
    return folder


def test_the_publishers_standardization_goes_with_the_weights_and_their_license_into_the_run(photos, put) -> None:
    fields = {"model.name": NETWORK, "model.weights": f"./{put}"}
    prepared = prepare(merge_request(read_config(None), data=str(photos()), epochs=1, fields=fields))
    assert prepared.normalization.mean == (127.5, 102, 76.5)
    assert prepared.config.model.weights == str(put.absolute())
    assert prepared.config.model.weights_license == "apache-2.0"
    assert prepared.config.recipe == "fine-tune"
    assert "the license of these weights is apache-2.0" in prepared.notes


@pytest.mark.slow
def test_weights_in_the_cache_are_chosen_for_a_few_photographs_unless_none_are_wanted(photos, monkeypatch) -> None:
    monkeypatch.setattr(Named, "cached", property(lambda self: self.text == "timm/resnet18.a1_in1k"))
    source = str(photos(each=4, size=96))
    config = merge_request(read_config(None), data=source, epochs=1, fields={})
    with pytest.raises(StriateError, match=r"timm/resnet18\.a1_in1k"):  # chosen, and not really there
        prepare(config)
    prepared = prepare(merge_request(config, fields={"model.weights": "none"}))
    assert (prepared.config.model.weights, prepared.config.model.name) == ("none", "airbench")
    assert prepared.config.recipe == "speedrun"


@pytest.mark.slow
def test_a_run_of_published_weights_is_exported_with_their_license(photos, put) -> None:
    source = photos()
    run = striate.train(source, NETWORK, weights=f"./{put}", epochs=1, set={"execution.plan": "plain"})
    assert config_from_yaml(run.path / "config.yaml").model.weights_license == "apache-2.0"
    striate.export(run, "hub", out="card")
    assert (
        "Training started from the weights resnet18.tv\\_in1k, license apache-2.0."
        in Path("card/README.md").read_text()
    )
    again = striate.train(source, weights="card", epochs=1, set={"execution.plan": "plain"})
    assert config_from_yaml(again.path / "config.yaml").model.weights_license == "apache-2.0"
