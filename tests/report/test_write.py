from __future__ import annotations

import base64
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import pytest
from made_runs import NASTY, classification, make_content, regression, segmentation
from PIL import Image

from striate.errors import RunError
from striate.report.page import page_environment
from striate.report.write import render_report, write_report
from striate.visualize.page_parts import Picture, Table

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.headings, self.images, self.ids, self.text = [], [], [], [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids.append(dict(attrs).get("id"))
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def page(content):
    return Page(render_report(content))


def test_needs_nothing_but_itself(page):
    assert page.count("script") == page.count("link") == page.count("iframe") == 0
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data", "action", "background", "style", "poster"):
            value = attributes.get(name)
            inside = name == "href" and value is not None and value.removeprefix("#") in page.ids
            assert value is None or inside or value.startswith("data:image/png;base64,")
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_style_asks_for_nothing(content):
    html = render_report(content)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_names_are_text_wherever_they_come_from(page, content):
    html = render_report(content)
    assert "<script" not in html
    assert "<b>" not in html
    for text in (*NASTY, "flow<er>s", "conv<1>", "source: <b>", "</td>"):
        assert text in page.text


def test_samples_are_whole_pngs_with_alternative_text(page, content):
    tiles = [tile for picture in content.pictures for tile in picture.tiles]
    assert len(page.images) == len(tiles) == 14 + 15 + 15
    for shown, tile in zip(page.images, tiles, strict=True):
        raw = base64.b64decode(shown["src"].removeprefix("data:image/png;base64,"), validate=True)
        with Image.open(BytesIO(raw)) as image:
            image.verify()
        assert shown["alt"] == tile.name
        assert tile.prediction.replace(" %", "\u00a0%") in page.text


def test_charts_are_drawn_in_the_colors_of_the_page(page, content):
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) == 3  # loss, accuracy, learning rate; the matrix is a table
    assert all(chart["role"] == "img" and "epoch" in chart["aria-label"] for chart in charts)
    assert "loss against the epoch: train from 1 to 0.3333, val from 1.1 to 0.3667" in charts[0]["aria-label"]
    assert "var(--blue)" in render_report(content)
    assert {"curves.png", "confusion.png", "mistakes.png"} <= {picture.path.name for picture in content.pictures}
    for picture in content.pictures:
        assert picture.path.stat().st_size > 0
        assert picture.caption in page.text or picture.kind == "confusion"


def test_no_two_parts_have_one_name(page):
    named = [name for name in page.ids if name is not None]
    assert len(named) == len(set(named))


def test_says_the_answer_first(page, content):
    low, high = content.evaluation.metrics["accuracy_interval"]
    sentence = f"expect {100 * low:.1f} % to {100 * high:.1f} % (95 % interval"
    share = f"{100 * content.evaluation.metrics['accuracy']:.1f} %"
    text = page.text[page.text.index(share) :].replace("Contents", "")
    text = text[: text.index("Samples, right")] + text[text.index("How to repeat it") + 16 :]  # without the contents
    places = [
        text.index(part)
        for part in (
            share, "of the 60 test samples of flow<er>s", sentence, "Samples, right and wrong",
            "Confusions between classes", "Each class", "What was noticed", "Data", "Training", "Network",
            "How to repeat it", "Configuration", "Environment",
        )
    ]  # fmt: skip
    assert places == sorted(places)


def test_headings_and_tables_are_in_order(page):
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert page.count("caption") == page.count("table") >= 6
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")


def test_the_table_of_targets_is_under_their_name(content):
    table = Table("Each target, test split", ("target", "n"), (("age", 3),))
    text = render_report(replace(content, tables={**content.tables, "classes": table}))
    assert ">Each target</h2>" in text
    assert "Each class" not in text


def test_charts_have_their_numbers(page, content):
    assert page.count("details") == page.count("summary") == 5  # decisions, curves, layers, config.yaml, environment
    assert "Rows: true class; columns: predicted class" in page.text
    assert "val_accuracy" in page.text
    assert "0.3667" in page.text  # the last loss of validation


def test_is_the_same_text_every_time(content):
    assert render_report(content) == render_report(content)


@pytest.mark.slow
def test_regression(tmp_path):
    content = make_content(tmp_path, regression(), target="value_$")
    page = Page(render_report(content))
    assert "RMSE 2.013" in page.text
    assert "R² 0.841" in page.text
    assert "value_$, predicted" in page.text
    assert "The first 200 predictions, test split of boston, n = 250" in page.text
    assert "Each class" not in page.text


@pytest.mark.slow
def test_segmentation(tmp_path):
    content = make_content(tmp_path, segmentation())
    page = Page(render_report(content))
    assert "91.2 %" in page.text
    drawn = [picture for picture in content.pictures if picture.kind == "samples"]
    assert len(drawn) == 4
    assert sum(tag == "figure" and attributes.get("class") == "samples" for tag, attributes in page.tags) == len(drawn)
    assert all(picture.caption in page.text for picture in drawn)


def test_without_a_test_split(content):
    page = Page(
        render_report(
            replace(content, evaluation=None, answer=None, tables={}, pictures=(), history=(), findings=(), notes=())
        )
    )
    assert "There is no test split" in page.text
    assert not page.images
    assert not page.count("svg")
    assert "What was noticed" not in page.text


def test_macs_that_were_not_counted_are_not_zero(content):
    text = Page(render_report(replace(content, model=replace(content.model, macs=None)))).text
    assert "35,330 parameters." in text
    assert "accumulates" not in text


@pytest.mark.slow
def test_a_hundred_classes_stay_below_three_megabytes(tmp_path):
    names = tuple(f"class number {k} with a long name" for k in range(100))
    content = make_content(tmp_path, classification(names, n=2000))
    path = write_report(tmp_path / "report.html", content)
    assert path.stat().st_size < 3_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert "class number 99 with a long name" in page.text
    assert "kinds of mistakes" in page.text


def test_replaces_an_older_report_and_leaves_nothing_else(tmp_path, content):
    (tmp_path / "report.html").write_text("old")
    before = set(tmp_path.iterdir())
    assert write_report(tmp_path / "report.html", content) == tmp_path / "report.html"
    assert set(tmp_path.iterdir()) == before
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_wrong_places_are_said(tmp_path, content):
    with pytest.raises(RunError, match="expected: a writable folder"):
        write_report(tmp_path / "absent" / "report.html", content)
    lost = Picture("t", "c", tmp_path / "lost.png", "samples")
    with pytest.raises(RunError, match=r"lost\.png"):
        render_report(replace(content, pictures=(lost,)))


def test_words_in_tables_are_left_aligned_and_numbers_have_a_minus_sign():
    table = Table(
        "Layers", ("layer", "kind", "mean"), (("conv1", "conv", "-1.5"), ("fc1", "fc", -2), ("relu1", "relu", "–"))
    )
    page = page_environment().get_template("parts.html").module.table(table)
    assert '<th scope="col" class="text"><span>kind</span>' in page
    assert '<td class="text">fc</td><td>−2</td>' in page
    assert "<td>−1.5</td>" in page
