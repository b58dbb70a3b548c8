"""The page Predict of a run on sounds, with a network that nobody trained."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from starlette.testclient import TestClient

from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.data.normalize import Normalization
from striate.lab.application import make_application
from striate.lab.workbench import Lab
from striate.models.build import build_model
from striate.tasks.classify.task import Classify
from striate.training.trained import Trained

PREPARATION = Preparation("spectrogram", (1, 32, 24), rate=8000, samples=4192, window=512, hop=160)


@pytest.fixture(scope="module")
def client() -> Any:
    """A client of a lab whose network tells two kinds of sounds apart at random."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build_model("conv(4,3) relu gap fc(2)", PREPARATION.input_shape).eval()
    task, numbers = Classify(("low", "high")), Normalization((100.0,), (40.0,))
    lab = Lab(Path("run"))
    lab.__dict__["trained"] = Trained(module, task, PREPARATION, numbers, task.classes, torch.device("cpu"))
    client = TestClient(make_application(lab, 80), base_url="http://127.0.0.1:80")
    client.headers["striate-key"] = lab.token
    yield client
    lab.end()


@pytest.fixture(scope="module")
def name(client: TestClient) -> str:
    file = io.BytesIO()
    wave = np.sin(np.arange(6000) / 3) * np.linspace(0, 0.5, 6000)
    soundfile.write(file, wave, 8000, "PCM_16", format="WAV")
    response = client.post("/api/predict/upload", params={"title": "rising.wav"}, content=file.getvalue())
    found: str = response.json()["name"]
    return found


def pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(b64decode(address.partition(",")[2]))))


def test_a_sound_is_played_as_the_network_hears_it(client: TestClient, name: str) -> None:
    response = client.get("/api/predict/file", params={"name": name})
    assert response.headers["content-type"] == "audio/wav"
    wave, rate = soundfile.read(io.BytesIO(response.content))
    assert (len(wave), rate) == (PREPARATION.samples, PREPARATION.rate)


def test_waveform_and_spectrogram_stand_under_one_another_with_the_prediction(client: TestClient, name: str) -> None:
    found = client.get("/api/predict/shown", params={"name": name}).json()
    assert {label for label, _ in found["top"]} == {"low", "high"}
    waveform, spectrogram = (pixels(one["picture"]) for one in found["pictures"])
    assert waveform.shape[1] == spectrogram.shape[1]
    dark = (waveform.sum(2) < 600).sum(0)
    inside = np.flatnonzero(dark)
    assert dark[inside[:40]].mean() < dark[inside[-40:]].mean(), "it becomes louder"


@pytest.mark.slow
def test_what_it_listened_to_is_drawn_with_the_axes(client: TestClient, name: str) -> None:
    found = client.get("/api/predict/evidence", params={"name": name}).json()
    drawn = pixels(found["picture"])
    spectrogram = medium_of("spectrogram").drawn(np.zeros((1, 32, 24), np.uint8), PREPARATION)
    assert spectrogram is not None
    assert drawn.shape == spectrogram.shape
    assert found["lines"]


def test_what_is_no_sound_is_refused(client: TestClient) -> None:
    response = client.post("/api/predict/upload", params={"title": "x.wav"}, content=b"GIF89a" + bytes(40))
    assert response.status_code == 422
    assert "not a sound file" in response.text
    assert client.get("/api/predict/shown", params={"name": "sent:0"}).status_code == 422


def test_watch_begins_with_a_network_that_takes_images(client: TestClient) -> None:
    found = client.get("/api/watch/choices").json()
    assert found["first"] == "mnist-cnn"
    assert "run" not in [one["name"] for one in found["networks"]]
