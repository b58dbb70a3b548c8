"""Records show themselves in a notebook: whole, small, and with every name as text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import striate
from striate import notebook
from striate.data.audit.data_check import DataCheck
from striate.doctor.diagnosis import Diagnosis
from striate.evaluation.comparison import ComparedRun, Comparison, Pair
from striate.records import Finding
from striate.statistics.intervals import wilson
from striate.statistics.paired import Difference
from striate.tasks.classify.task import Classify
from striate.tasks.evaluation import ClassRow, Evaluation
from striate.visualize.attribution.checks import AttributionMap, MapCheck, Maps, PredictionCheck
from striate.visualize.attribution.explanation_record import Explanation
from striate.visualize.attribution.nearest import Nearest

NASTY = "<script>alert(1)</script>\x1b[31m"


class Shown(HTMLParser):
    """Tags and text of a fragment; fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"style", "class", "scope"} | (
            {"src", "alt", "title"} if tag == "img" else set()
        )
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def finding() -> Finding:
    return Finding("data.leak", "warning", NASTY, "2 images", "0", "Too rosy.", "striate data check")


def evaluation() -> Evaluation:
    row = ClassRow(NASTY, 10, 0.5, None, None, wilson(5, 10))
    metrics = {"n": 10, "loss": 0.5, "accuracy": 0.5, "accuracy_interval": [0.2, 0.8]}
    nothing = np.zeros((10, 1), np.float32)
    return Evaluation(
        *(NASTY, "test", "classify", (NASTY,), 10, metrics, nothing, np.zeros(10, np.int64), np.arange(10)),
        per_class=(row,),
        findings=(finding(),),
        shown=Classify.metrics,
    )


def comparison() -> Comparison:
    runs = tuple(ComparedRun(name, name, NASTY, 0.9, None, 10, None, 1.5, None, "cpu") for name in ("a", "b"))
    difference = Difference(10, 0.01, None, 0.2, "McNemar", None)
    pair = Pair("a", "b", difference, 0.2, False, 500, "a and b do not differ significantly on 10 images.")
    return Comparison(NASTY, "test", 10, "images", "classify", "accuracy", runs, (pair,), (NASTY,))


def explanation() -> Explanation:
    answer = PredictionCheck(5.0, (1.0, 2.0))
    check = MapCheck(0.1, 2, (0.0, 1.0), (1.0, 0.0), (1.0, 0.5), 0.25, True, answer)
    made = AttributionMap("grad-cam", "conv2", np.ones((8, 8), np.float32), False, check)
    fields = {"label": NASTY, "probability": 0.9, "top": [[NASTY, 0.9], ["b", 0.1]]}
    pixels = np.zeros((1, 8, 8), np.uint8)
    maps = Maps((made,), "auto", (), answer)
    return Explanation("a.png", "m", fields, (NASTY, "b"), pixels, (), maps, None, None, Nearest(), (NASTY,))


def shown(record: Any) -> Shown:
    html = record._repr_html_()
    assert len(html) < 200_000
    assert "<script" not in html
    assert "\x1b" not in html
    return Shown(html)


def test_a_finding() -> None:
    text = shown(finding()).text
    for part in ("warning", "<script>alert(1)</script>", "2 images", "Too rosy.", "striate data check", "data.leak"):
        assert part in text


def test_a_ledger() -> None:
    ledger = replace(striate.summarize("mnist-cnn"), model=NASTY)
    page = shown(ledger)
    assert {"table", "th"} <= page.tags
    assert all(row.name in page.text for row in ledger.rows)
    assert f"{ledger.params:,}" in page.text


def test_a_long_ledger_says_what_it_leaves_out() -> None:
    ledger = striate.summarize("mnist-cnn")
    assert "… and 20 more rows" in shown(replace(ledger, rows=(*ledger.rows,) * 20)).text


def test_a_diagnosis() -> None:
    diagnosis = Diagnosis((finding(),), {"data.leak": (finding(),)}, {"loss.x": NASTY}, ("a", "b"), 1.25)
    text = shown(diagnosis).text
    assert "Not healthy" in text
    assert "0 errors, 1 warning, 0 notes; 2 checks in 1.2 s" in text
    assert "not looked at: loss.x" in text


def test_an_evaluation() -> None:
    page = shown(evaluation())
    assert "accuracy 50.00 %" in page.text
    assert "table" in page.tags


def test_a_comparison() -> None:
    assert "do not differ significantly" in shown(comparison()).text


def test_an_explanation() -> None:
    page = shown(explanation())
    assert "img" in page.tags
    assert "Grad-CAM at conv2" in page.text


def test_a_check_of_data() -> None:
    check = striate.check_data("iris")
    assert isinstance(check, DataCheck)
    assert "iris: 150 samples" in shown(check).text


@pytest.mark.parametrize("loss", [0.5, {"mean": 0.5, "std": 0.1}])
def test_a_run(loss: Any) -> None:
    from striate.api import Run

    split = {"n": 10, "loss": loss, "accuracy": 0.5, "accuracy_interval": [0.2, 0.8]}
    text = shown(Run(Path("runs/x"), {"model": NASTY, "data": "iris", "test": split})).text
    assert "runs/x/report.html" in text
    assert ("accuracy 50.00 %" in text) == isinstance(loss, float)


@given(st.text(), st.lists(st.tuples(st.text(), st.one_of(st.none(), st.integers(), st.floats(), st.text()))))
def test_any_words_are_only_text(title: str, rows: list[tuple[str, Any]]) -> None:
    page = Shown(notebook.page(title, notebook.table((title, "b"), rows, title), notebook.items([title])))
    assert page.tags <= {"div", "table", "thead", "tbody", "tr", "td", "th", "caption", "ul", "li"}
