"""Predict in a browser: boxes are drawn over an image that was sent, the threshold is moved; what positions say."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

import striate
from made_boxes import made_images, save, write_table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    source = write_table(folder / "data", made_images(80, (32, 48), seed=1))
    fields = {"execution.plan": "plain"}
    striate.train(source, "small-resnet(width=8)", epochs=12, batch=16, size=(32, 48), out=folder / "run", set=fields)
    save(made_images(1, (96, 144), seed=2)[0][0], folder / "one.png")
    return folder / "run"


@pytest.fixture
def scripts(visit: Callable[..., Any]) -> Any:
    """An empty page that can import the lab's scripts."""
    static = Path(str(files("striate.lab") / "static"))

    def serve(route: Any) -> None:
        name = Path(urlsplit(route.request.url).path).name
        route.fulfill(path=static / name) if name.endswith(".js") else route.fulfill(body="", content_type="text/html")

    page = visit("about:blank").page
    page.route("**/*", serve)
    page.goto("http://127.0.0.1:9/")
    return page


def test_only_nothing_is_0_percent_and_only_all_is_100(scripts: Any) -> None:
    texts = scripts.evaluate("""async () => {
      const { percent } = await import("/dom.js");
      return [0, 1e-9, 0.06, 0.98, 0.9999, 1].map(percent);
    }""")
    assert [text.replace("\xa0", " ") for text in texts] == [
        "0.0 %",
        "< 0.1 %",
        "6.0 %",
        "98.0 %",
        "> 99.9 %",
        "100.0 %",
    ]


def test_names_of_boxes_at_one_place_stand_below_one_another(scripts: Any) -> None:
    tops = scripts.evaluate("""async () => {
      const { drawnMarks } = await import("/predict_marks.js");
      const corners = [[100, 200], [300, 200], [300, 400], [100, 400]];
      const outlines = [0.9, 0.8, 0.7].map((probability) => ({ kind: 0, probability, corners }));
      const marks = { width: 640, height: 480, names: ["disc"], colors: [[0, 90, 160]], outlines };
      const drawn = drawnMarks("", "", { ...marks, spots: [], lines: [], areas: null }, () => null);
      document.body.append(drawn.element);
      drawn.update({ threshold: 0, opacity: 1, hidden: new Set(), chosen: null });
      const plates = [...document.querySelectorAll(".plate")].map((plate) => plate.getBBox());
      return plates.map(({ y, height }) => [y, y + height]).toSorted((a, b) => a[0] - b[0]);
    }""")
    assert len(tops) == 3
    assert all(end <= begin for (_, end), (begin, _) in pairwise(tops))


@pytest.mark.slow
def test_boxes_are_drawn_over_an_image_and_the_threshold_moved(
    visit: Callable[..., Any], lab_address: Callable[..., str], run: Path
) -> None:
    seen = visit(lab_address("/predict", run))
    page = seen.page
    page.get_by_role("button", name="Upload").click()
    page.locator("input[type=file]").set_input_files(run.parent / "one.png")
    page.get_by_text("one.png, 144 × 96 pixels").wait_for()
    slider = page.get_by_label("Score from which on an object is drawn")
    slider.fill("0.02")
    counts = "document.querySelectorAll('.marks .outline').length"
    page.wait_for_function(f"{counts} > 0 && {counts} === document.querySelectorAll('tbody tr').length")
    many = page.locator(".marks .outline").count()
    slider.fill("0.99")
    page.wait_for_function(f"{counts} < {many}")
    assert "threshold=0.99" in page.url
    slider.fill("0.02")
    page.locator("tbody button").first.click()
    assert page.locator(".marks .chosen").count() == 1
    kinds = page.locator(".legend input")
    for number in range(kinds.count()):
        kinds.nth(number).uncheck()
    assert page.locator(".marks .outline").count() == 0
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)


@pytest.mark.slow
def test_each_position_of_a_detector_says_something_on_a_phone(
    visit: Callable[..., Any], lab_address: Callable[..., str], run: Path
) -> None:
    seen = visit(lab_address("/watch?model=run&image=run%230", run), width=360, dark=True)
    page = seen.page
    frame = page.locator(".position-frame").first
    frame.wait_for()
    frame.click(position={"x": 3, "y": 3})
    page.get_by_text("row 0, column 0. Its box").wait_for()
    frame.focus()
    page.keyboard.press("ArrowDown")
    page.get_by_text("row 1, column 0. Its box").wait_for()
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)


@pytest.mark.slow
def test_what_is_said_of_a_tall_picture_and_of_a_refused_one(
    visit: Callable[..., Any], lab_address: Callable[..., str], digits_run: Path, own_folder: Path
) -> None:
    Image.new("L", (3, 4000)).save(own_folder / "tall.png")
    (own_folder / "text.png").write_text("text")
    page = visit(lab_address("/predict", digits_run)).page
    page.get_by_role("button", name="Upload").click()
    page.locator("input[type=file]").set_input_files(own_folder / "tall.png")
    page.get_by_text("tall.png, 3 × 4000 pixels").wait_for()
    page.locator("img[alt='tall.png']").wait_for()
    assert page.evaluate("document.documentElement.scrollHeight") < 3000
    page.locator("input[type=file]").set_input_files(own_folder / "text.png")
    page.get_by_role("alert").get_by_text("text.png").wait_for()
    assert page.get_by_text("tall.png, 3 × 4000 pixels").count() == 1  # as what is predicted
