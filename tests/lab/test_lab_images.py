"""The images of the lab: samples of data, pictures that were sent, and their numbers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.api import train
from striate.errors import DataError
from striate.lab import page_images
from striate.lab.page_images import Images
from striate.lab.workbench import Lab
from striate.training.config import Config
from striate.training.config_file import config_to_yaml
from striate.training.request import merge_request
from striate.visualize.picture import sample_picture


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def test_samples_are_those_of_the_command_line(client) -> None:
    about = client.get("/api/images/about", params={"name": "mnist5k#1234"}).json()
    assert (about["label"], about["width"], about["channels"]) == ("2", 28, ["gray"])
    part = client.get(
        "/api/pixels/region", params={"image": "mnist5k#1234", "x": 3, "y": 5, "width": 20, "height": 9}
    ).json()
    assert part["channels"]["gray"]["values"] == sample_picture("mnist5k#1234").values[5:14, 3:23, 0].tolist()


def test_samples_that_are_no_images_are_told_where_they_are_shown(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(config_to_yaml(merge_request(Config(), data="iris", fields={})))
    with pytest.raises(DataError) as told:
        Images(Lab(run)).listing("run")
    assert (told.value.got, told.value.remedy) == ("samples of another kind (table)", "open the page Predict")


def test_a_page_of_samples_is_of_several_classes_and_no_sample_comes_twice(client) -> None:
    first, second = (
        client.get("/api/images/samples", params={"data": "mnist5k", "start": start}).json() for start in (0, 24)
    )
    names = [sample["name"] for page in (first, second) for sample in page["samples"]]
    assert len(set(names)) == 48
    assert len({sample["label"] for sample in first["samples"]}) > 5
    assert first["samples"][0]["picture"].startswith("data:image/png;base64,")
    for count in range(1, 40):
        assert sorted(page_images._mixed(k, count) for k in range(count)) == list(range(count))


def test_channels_are_shown_one_by_one(client) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    about = client.post("/api/images/upload", content=png(rgba)).json()
    assert about["channels"] == ["red", "green", "blue", "alpha"]
    assert about["notes"] == [page_images._ALPHA]
    asked = {"image": about["name"], "kernel": "identity"}
    assert "alpha is left out" in client.get("/api/play/filter", params=asked).json()["notes"][0]
    for place, name in enumerate(about["channels"]):
        answer = client.get("/api/pixels/channel", params={"image": about["name"], "name": name})
        with Image.open(io.BytesIO(answer.content)) as shown:
            assert (np.asarray(shown) == rgba[..., place]).all()
    assert client.get("/api/pixels/channel", params={"image": about["name"], "name": "gray"}).status_code == 422
    outside = {"image": about["name"], "x": 3, "y": 0, "width": 3, "height": 1}
    assert client.get("/api/pixels/region", params=outside).status_code == 422


def test_a_drawing_becomes_gray(client) -> None:
    drawn = np.zeros((28, 28, 4), np.uint8)
    drawn[..., 3] = 255
    drawn[4:9, 3:20, :3] = 200
    about = client.post("/api/images/upload", params={"gray": True, "title": "drawing"}, content=png(drawn)).json()
    assert (about["channels"], about["notes"]) == (["gray"], [])


def test_what_was_sent_gives_way_to_newer_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_images, "_MOST_BYTES", 250)
    kept = Images(Lab())
    names = [kept.add(png(np.full((10, 10), value, np.uint8)), "x").name for value in range(3)]
    assert kept.find(names[1]).picture.values[0, 0, 0] == 1
    with pytest.raises(page_images.DataError, match="not sent to this lab, or is no longer cached"):
        kept.find(names[0])


def test_data_of_the_run_are_there_by_their_name(open_lab, photos) -> None:
    run = train(str(photos()), model="fc(3)", epochs=1, out="run", set={"execution.plan": "plain"})
    client = open_lab(run.path)
    assert client.get("/api/images/sets").json()["sets"][0]["name"] == "run"
    about = client.get("/api/images/about", params={"name": "run#35"}).json()
    assert (about["label"], about["width"]) == ("red", 16)
    choices = client.get("/api/build/choices").json()
    assert choices["networks"][0]["name"] == "run"
    assert client.post("/api/build/network", json={"model": "run"}).json()["params"] == 3 * (3 * 16 * 16 + 1)
