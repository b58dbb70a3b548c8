"""The page of `striate serve`: what it shows of each kind of answer, in the light and in the dark."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

STATIC = Path(str(files("striate.serving") / "static"))
ADDRESS = "http://127.0.0.1:9"
RUN = {"run": "vehicles", "task": "detect", "classes": ["car", "bus"]}
BOX = {"label": "car", "probability": 0.9, "box": [10, 20, 40, 30], "angle": 30}
ANSWERS = {
    "car.png": {"path": "car.png", "width": 64, "height": 48, "boxes": [BOX]},
    "face.png": {"path": "face.png", "points": [["nose", 12.5, 20, 0.8], ["chin", 13, 40, 0.7]]},
    "rose.png": {"path": "rose.png", "label": "rose", "top": [["rose", 0.75], ["tulip", 0.25]]},
    "dog.wav": {"path": "dog.wav", "label": "dog", "top": [["dog", 1.0]]},
    "ages.png": {"path": "ages.png", "value": 31.2},
    "broken.png": {"path": "broken.png", "error": "not a picture"},
}


def _served(route: Any) -> None:
    """What the server answers, without one."""
    from urllib.parse import parse_qs, urlsplit

    asked = urlsplit(route.request.url)
    if asked.path == "/runs":
        route.fulfill(json=[RUN])
    elif asked.path == "/predict":
        line = ANSWERS[parse_qs(asked.query)["name"][0]]
        route.fulfill(json=line, status=200)
    else:
        route.fulfill(path=STATIC / ("page.html" if asked.path == "/" else Path(asked.path).name))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_the_page_shows_every_kind_of_answer(visit: Callable[..., Any], tmp_path: Path, dark: bool) -> None:
    Image.new("RGB", (64, 48), (90, 90, 90)).save(tmp_path / "picture.png")
    picture = (tmp_path / "picture.png").read_bytes()
    seen = visit("about:blank", 360, 900, dark)
    seen.page.route("**/*", _served)
    seen.page.goto(f"{ADDRESS}/?token=secret")
    sent = [
        {"name": name, "mimeType": "image/png", "buffer": b"RIFF" if name.endswith("wav") else picture}
        for name in ANSWERS
    ]
    seen.page.locator("#files").set_input_files(sent)
    seen.page.wait_for_function(f"document.querySelectorAll('#answers li').length == {len(ANSWERS)}")
    seen.page.wait_for_function("[...document.images].every((one) => one.complete && one.naturalWidth)")

    entries = {one.locator(".name").inner_text(): one for one in seen.page.locator("#answers li").all()}
    box = entries["car.png"].locator("svg rect")
    assert box.get_attribute("transform") == "rotate(-30 25 25)"  # counterclockwise; the axis of pixels goes down
    assert box.text_content() == "car, 90.0 %"
    drawn = entries["car.png"].locator("svg").bounding_box()
    assert drawn == entries["car.png"].locator("img").bounding_box(), "boxes lie elsewhere than the picture"
    assert entries["face.png"].locator("svg circle").count() == 2
    assert "75.0 %" in entries["rose.png"].inner_text()
    assert entries["dog.wav"].locator("img").count() == 0, "a sound is no picture"
    assert entries["ages.png"].locator("details").get_attribute("open") is not None
    assert "31.2" in entries["ages.png"].locator("pre").inner_text()
    assert entries["broken.png"].locator(".wrong").inner_text() == "not a picture"
    assert not seen.violations()
    assert seen.too_wide() == 0
    assert not seen.errors
    assert seen.page.url == f"{ADDRESS}/", "the token stays in the history"
