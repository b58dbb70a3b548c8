"""The page Predict of a run on volumes, with a network that nobody trained."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from striate.data.dataset import Preparation
from striate.data.normalize import Normalization
from striate.lab.application import make_application
from striate.lab.workbench import Lab
from striate.models.build import build_model
from striate.tasks.segment.task import Segment
from striate.training.trained import Trained


@pytest.fixture(scope="module")
def client() -> Any:
    """A client of a lab whose network calls what is bright `organ`."""
    preparation = Preparation("volume", (1, 16, 16, 16), fit="pad", intensity="as-is")
    task = Segment(("background", "organ"))
    module = build_model("conv(2,1)", (1, 16, 16, 16)).eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(
                torch.tensor([-1.0, 1.0]).view(2, *(1,) * (weight.ndim - 1)) * (1 if weight.ndim > 1 else -0.5)
            )
    numbers = Normalization((0.0,), (1.0,))
    lab = Lab(Path("run"))
    lab.__dict__["trained"] = Trained(
        task.attach(module, (1, 16, 16, 16)), task, preparation, numbers, task.classes, torch.device("cpu")
    )
    client = TestClient(make_application(lab, 80), base_url="http://127.0.0.1:80")
    client.headers["striate-key"] = lab.token
    yield client
    lab.end()


def test_slices_of_a_volume_have_the_mask_over_them(client: TestClient) -> None:
    volume = np.zeros((20, 18, 14), np.float32)
    volume[10:14, 2:6, 3:9] = 2
    file = io.BytesIO()
    np.save(file, volume)
    sent = client.post("/api/predict/upload", params={"title": "scan.npy"}, content=file.getvalue()).json()
    found = client.get("/api/predict/shown", params={"name": sent["name"]}).json()
    assert [one["name"] for one in found["legend"]] == ["background", "organ"]
    assert found["legend"][1]["share"] == pytest.approx(4 * 4 * 6 / volume.size)
    pixels = np.asarray(Image.open(io.BytesIO(b64decode(found["pictures"][0]["picture"].partition(",")[2]))))
    colored = (pixels.max(2).astype(int) - pixels.min(2) > 40).sum()
    assert colored == (4 * 6 + 4 * 6 + 4 * 4) * 12**2, "the organ in three slices, a voxel 12 pixels wide, and no more"
    assert [one["color"] is None for one in found["legend"]] == [True, False]
    assert not found["explained"]


def test_what_is_no_volume_is_refused(client: TestClient) -> None:
    response = client.post("/api/predict/upload", params={"title": "x.nii.gz"}, content=b"GIF89a" + bytes(400))
    assert response.status_code == 422
