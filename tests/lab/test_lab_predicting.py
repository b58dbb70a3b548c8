"""The page Predict, and what Watch says of the positions of outputs, with networks that nobody trained."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Callable
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
from striate.tasks.detect.task import Detect
from striate.tasks.keypoints.task import Keypoints
from striate.tasks.reconstruct.task import Reconstruct
from striate.tasks.segment.task import Segment
from striate.tasks.task import Task
from striate.training.trained import Trained

SHAPE = (3, 32, 48)
FACE = ("left_eye", "right_eye", "nose")


def trained(task: Task, network: str) -> Trained:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = task.attach(build_model(network, SHAPE, task.built_outputs, dense=task.needs == "map"), SHAPE)
    if isinstance(task, Detect):
        with torch.no_grad():
            module.score.bias += 4  # as if it had learned to see something
    preparation = Preparation("image", SHAPE, "pad" if task.needs_placement else "crop", native=True)
    normalization = Normalization((127.5,) * 3, (64.0,) * 3)
    return Trained(module.eval(), task, preparation, normalization, task.classes, torch.device("cpu"))


MADE: dict[str, Callable[[], Trained]] = {
    "detect": lambda: trained(Detect(("disk", "square"), (32, 48), (4, 8), 6.0, 0.4), "resnet18(width=8)"),
    "segment": lambda: trained(Segment(("ground", "disk", "square")), "conv(8,3,pad=1) relu conv(3,3,pad=1)"),
    "keypoints": lambda: trained(
        Keypoints(FACE, (32, 48), 0.5, pairs=(1, 0, 2), skeleton=((0, 2), (1, 2))), "small-resnet(width=8)"
    ),
    "reconstruct": lambda: trained(Reconstruct(SHAPE), "conv(4,3,pad=same) relu conv(3,3,pad=same)"),
}


@pytest.fixture(scope="module")
def clients() -> Any:
    """A client of a lab for each of the tasks, with the name of a picture that was sent to it."""
    found, labs = {}, []
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    for name, make in MADE.items():
        lab = Lab(Path("run"))
        lab.__dict__["trained"] = make()  # in place of what the run would hold
        labs.append(lab)
        client = TestClient(make_application(lab, 80), base_url="http://127.0.0.1:80")
        client.headers["striate-key"] = lab.token
        found[name] = (
            client,
            client.post("/api/images/upload", content=png.getvalue()).json()["name"],
            lab.trained,
            pixels,
        )
    yield found
    for lab in labs:
        lab.end()


def prediction(client: TestClient, image: str) -> dict[str, Any]:
    response = client.get("/api/predict/prediction", params={"image": image})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_boxes_are_those_of_predict_in_pixels_of_the_file_also_below_the_threshold(clients: Any) -> None:
    client, image, network, pixels = clients["detect"]
    marks = prediction(client, image)["marks"]
    assert (marks["width"], marks["height"], marks["names"], marks["threshold"]) == (96, 64, ["disk", "square"], 0.4)
    said = network.predict(Image.fromarray(pixels)).fields["boxes"]
    shown = [one for one in marks["outlines"] if one["probability"] >= 0.4]
    assert len(shown) == len(said) < len(marks["outlines"])
    for one, box in zip(shown, said, strict=True):
        assert [*one["corners"][0], *one["corners"][2]] == pytest.approx(box["box"], abs=0.01)
        assert marks["names"][one["kind"]] == box["label"]
    assert all(0 <= x <= 96 and 0 <= y <= 64 for one in marks["outlines"] for x, y in one["corners"])


def test_an_image_is_shown_beside_its_reconstruction(clients: Any) -> None:
    client, image, network, pixels = clients["reconstruct"]
    content = prediction(client, image)["picture"].removeprefix("data:image/png;base64,")
    given = Image.fromarray(pixels)
    with Image.open(io.BytesIO(b64decode(content))) as shown:
        assert (np.asarray(shown) == network.drawn(given, network.predict(given))).all()
    assert prediction(clients["detect"][0], clients["detect"][1])["picture"] is None


def test_areas_are_the_mask_of_predict(clients: Any) -> None:
    client, image, network, pixels = clients["segment"]
    marks = prediction(client, image)["marks"]
    areas = marks["areas"]
    found = np.frombuffer(b64decode(areas["data"]), np.uint8).reshape(areas["rows"], areas["columns"])
    decoded = network.predict(Image.fromarray(pixels)).decoded.numpy()
    assert (found == decoded).all()
    assert marks["shares"] == pytest.approx([(decoded == k).mean() for k in range(3)])
    assert len(marks["colors"]) == 3


def test_points_are_those_of_predict_with_their_skeleton(clients: Any) -> None:
    client, image, network, pixels = clients["keypoints"]
    marks = prediction(client, image)["marks"]
    said = network.predict(Image.fromarray(pixels)).fields["points"]
    assert [[marks["names"][one["kind"]], one["x"], one["y"], one["probability"]] for one in marks["spots"]] == said
    assert marks["lines"] == [[0, 2], [1, 2]]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("name", "maps"), [("detect", 2), ("segment", 1), ("keypoints", 1)])
def test_each_position_says_what_the_outputs_say(clients: Any, name: str, maps: int) -> None:
    client, image, _, _ = clients[name]
    asked = {"model": "run", "image": image}
    found = client.get("/api/watch/positions", params={**asked, "kind": 1}).json()
    assert len(found["levels"]) == maps
    best = client.get("/api/watch/positions", params=asked).json()
    assert best["highest"] >= found["highest"]
    assert found["highest"] == max(one["highest"] for one in found["levels"])
    for number, level in enumerate(found["levels"]):
        data = np.frombuffer(b64decode(level["data"]), np.uint8).reshape(level["rows"], level["columns"])
        assert data[level["row"], level["column"]] == data.max()
        place = {"level": number, "row": level["row"], "column": level["column"]}
        cell = client.get("/api/watch/cell", params={**asked, **place}).json()
        assert cell["values"][1] == pytest.approx(level["highest"])
        assert len(cell["values"]) == len(found["names"])
        assert (cell["box"] is not None) == (name == "detect")
        outside = client.get("/api/watch/cell", params={**asked, **place, "row": 1000})
        assert outside.json()["error"]["expected"].startswith("row 0 to")
    assert client.get("/api/watch/steps", params=asked).status_code == 200


def test_a_network_without_positions_has_no_maps_of_them_and_no_lab_predicts_without_a_run(client: TestClient) -> None:
    found = client.get("/api/watch/positions", params={"model": "mlp(8)", "image": "mnist5k#3"}).json()
    assert found == {"names": [], "levels": []}
    refused = client.get("/api/predict/prediction", params={"image": "mnist5k#3"})
    assert refused.json()["error"]["got"] == "a lab without a run"
