"""What a page says of a mistake speaks of its fields, not of the command line."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from striate.errors import UsageError
from striate.lab import page_images
from striate.lab.problems import problem_record
from striate.records import Remedy


def test_a_region_beyond_the_picture_is_told_without_options(client: TestClient) -> None:
    png = io.BytesIO()
    Image.new("RGB", (40, 30)).save(png, "PNG")
    image = client.post("/api/images/upload", content=png.getvalue()).json()["name"]
    asked = {"image": image, "x": 38, "y": 0, "width": 10, "height": 10}
    error = client.get("/api/pixels/region", params=asked).json()["error"]
    assert (error["where"], error["remedy"]) == ("region", "region 38,0,2,10")


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("model", "shape", "field", "words"),
    [
        ("conv(8,3) relu fc(10)", "", "remedy", "write an input shape: 1x28x28"),
        ("resnat18", "", "expected", "a layer string, or a name of the zoo"),
        ("zzzzqq", "", "remedy", "choose one of the networks with a name"),
        ("alexnet", "3x9x9", "remedy", "use the input shape 3x63x63, or another network: small-resnet"),
    ],
)
def test_a_network_with_a_mistake_is_told_without_options(
    client: TestClient, model: str, shape: str, field: str, words: str
) -> None:
    error = client.post("/api/build/network", json={"model": model, "input": shape}).json()["error"]
    assert error[field] == words


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("asked", "remedy"),
    [
        ({"size": 3, "kernel": 7}, "padding 2"),
        ({"size": 3, "kernel": 7, "dilation": 8, "padding": 8}, "dilation 3"),
        ({"size": 3, "kernel": 7, "dilation": 8}, "kernel 3, dilation 1"),
        ({"size": 1, "kernel": 7, "mode": "reflect"}, "padding 3, padding mode zeros"),
        ({"size": 2, "kernel": 2, "padding": 5, "mode": "reflect"}, "padding mode replicate"),
    ],
)
def test_windows_that_do_not_fit_are_mended_by_what_the_page_has(
    client: TestClient, asked: dict[str, str], remedy: str
) -> None:
    assert client.get("/api/play/windows", params=asked).json()["problem"]["remedy"] == remedy
    mended = dict(part.split(" ") for part in remedy.replace("padding mode", "mode").split(", "))
    assert "problem" not in client.get("/api/play/windows", params={**asked, **mended}).json()


def test_an_option_without_a_field_on_the_page_is_said_to_be_one() -> None:
    error = UsageError("--lr", "0", "above 0", Remedy("a lower rate", settings={"optim.lr": 0.1, "optim.clip": 1.0}))
    told = problem_record(error)
    assert told["where"] == "learning rate"
    assert told["remedy"] == "learning rate 0.1, --optim.clip 1 on the command line"


def test_a_page_is_told_a_mistake_without_a_line_on_the_console(client: TestClient) -> None:
    asked = {"size": 3, "kernel": 9}
    plain = client.get("/api/play/windows", params=asked)
    told = client.get("/api/play/windows", params=asked, headers={"striate-refusals": "answers"})
    assert (plain.status_code, told.status_code) == (422, 200)
    assert told.json() == plain.json()
    assert told.json()["error"] == {"where": "kernel", "got": "9", "expected": "at most 7", "remedy": "write 7"}
    unread = client.get("/api/explore/about", headers={"striate-refusals": "answers"})
    assert unread.status_code == 200
    assert unread.json()["error"]["got"] == "a lab without a run"


@pytest.mark.parametrize(("body", "got"), [("notjson", "notjson"), ("[1]", "[1]"), ("", "nothing")])
def test_a_body_that_is_no_object_is_told_as_it_came(client: TestClient, body: str, got: str) -> None:
    error = client.post("/api/build/network", content=body, headers={"content-type": "application/json"}).json()
    told = error["error"]
    assert (told["where"], told["got"], told["expected"]) == ("the body", got, "a JSON object")
    assert "application/json" in told["remedy"]
    typed = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/api/build/network", content=body, headers=typed).json() == error


def test_a_value_that_was_not_sent_is_told_as_missing(client: TestClient) -> None:
    for told, where in (
        (client.get("/api/play/windows"), "input"),
        (client.get("/api/play/windows", params={"size": "", "kernel": 3}), "input"),
        (client.post("/api/build/network", json={}), "model"),
    ):
        error = told.json()["error"]
        assert (error["where"], error["got"], error["remedy"]) == (where, "nothing", f"fill in {where}")


def test_a_value_beyond_its_limits_is_told_by_the_name_of_its_field(client: TestClient) -> None:
    told = client.get("/api/play/windows", params={"size": 0, "kernel": 3}).json()["error"]
    assert told == {"where": "input", "got": "0", "expected": "at least 1", "remedy": "write 1"}


def test_a_number_of_outputs_is_told_without_a_task(client: TestClient) -> None:
    asked = {"model": "conv(8,3) fc(7)", "input": "1x9x9", "outputs": 3}
    error = client.post("/api/build/network", json=asked).json()["error"]
    assert (error["got"], error["expected"]) == ("7 outputs", "3 outputs")


@pytest.mark.parametrize(
    ("pixels", "got", "expected", "remedy"),
    [
        (
            np.array([[-1.0, 200.0]], np.float32),
            "floating-point values from -1 to 200",
            "values from 0 to 1",
            "scale its values to 0 to 1 and save it again",
        ),
        (None, "not a picture", "a complete picture", "choose another picture"),
        (np.zeros((1, 9000), np.uint8), "9,000 pixels", "a complete picture", "choose a smaller picture"),
    ],
)
def test_a_picture_that_cannot_be_taken_is_told_with_what_is_wrong_with_it(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    pixels: np.ndarray | None,
    got: str,
    expected: str,
    remedy: str,
) -> None:
    monkeypatch.setattr(page_images, "MAX_PIXELS", 8000)
    file = io.BytesIO(b"no picture")
    if pixels is not None:
        Image.fromarray(pixels).save(file, "TIFF")
    error = client.post("/api/images/upload", content=file.getvalue()).json()["error"]
    assert got in error["got"]
    assert error["expected"].startswith(expected)
    assert error["remedy"] == remedy


def test_an_address_that_is_none_is_told_as_a_page_or_as_a_record(client: TestClient) -> None:
    page = client.get("/nope")
    assert (page.status_code, "There is no page /nope" in page.text, 'href="/build"' in page.text) == (404, True, True)
    told = client.get("/api/nope/<b>")
    assert (told.status_code, told.json()["error"]["got"]) == (404, "/api/nope/<b>")
    assert "<b>" not in client.get("/<b>").text
