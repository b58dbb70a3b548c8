"""The page of an account: one file, offline, with everything that the ledger has."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from striate import summarize
from striate.account.comparison import compare_ledgers
from striate.account.field.effective import measure_field
from striate.report.summary import layer_table, short_layer_table, summary_page


class Cells(HTMLParser):
    """The rows of all tables, as texts, and the tags seen."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, _attributes: list) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if self.inside:
            self.rows[-1].append("")

    def handle_endtag(self, _tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def test_every_layer_has_a_row_with_all_columns() -> None:
    ledger = summarize("mnist-cnn")
    rows = {row[0]: row for row in Cells(summary_page(ledger)).rows if len(row) == len(layer_table(ledger).columns)}
    assert set(rows) >= {row.name for row in ledger.rows}
    # 2·614,400 + 1,536 operations for 4·(9,624 + 16·12·12 + 24·8·8) bytes
    assert rows["conv2"] == [
        *("conv2", "conv", "16×12×12", "24×8×8", "9,624", "614,400", "14", "2", "0", "6.5"),
        *("9,624", "27", "71", "1,536", "38,496", "6,144", "9,216", "22.8"),
    ]
    assert rows["total"][4] == "35,330"
    assert rows["total"][5] == "870,016"


def test_the_last_row_sums_up_the_others() -> None:
    table = layer_table(summarize("resnet18"))
    for column, name in enumerate(table.columns):
        if name in ("parameters", "trainable", "MACs", "other operations", "weights, bytes", "output, bytes"):
            assert sum(row[column] for row in table.rows[:-1]) == table.rows[-1][column], name


def test_the_report_of_a_run_has_a_shorter_table() -> None:
    table = short_layer_table(summarize("mnist-cnn"))
    assert len(table.rows) == 11
    assert table.rows[3] == ("conv2", "conv", "24×8×8", 9_624, 614_400, "14")
    assert len(table.columns) == 6


def test_it_needs_nothing_else_and_runs_nothing() -> None:
    field = measure_field("mnist-cnn", (1, 28, 28))
    page = summary_page(summarize("mnist-cnn"), field)
    assert not re.search(r'(?:src|href)="(?!data:image/png;base64,|#)', page)
    assert "url(" not in page
    assert {"svg", "table", "image"} <= Cells(page).tags
    assert not {"script", "link", "iframe"} & Cells(page).tags


def test_remarks_and_totals_are_in_it() -> None:
    ledger = summarize("conv(4,3,stride=3) relu fc(9) softmax", (1, 7, 7))
    page = summary_page(ledger)
    assert "<h2>Remarks on the design</h2>" in page
    for remark in ledger.remarks:
        assert remark.code in page
    assert '<strong class="warning">warning</strong>' in page
    assert "2 × MACs" in page


def test_two_networks_are_beside_each_other() -> None:
    ledger = summarize("lenet5")
    page = summary_page(ledger, comparison=compare_ledgers(ledger, summarize("mnist-cnn")))
    assert ["parameters", "61,706", "35,330", "1.75"] in Cells(page).rows
    assert "Against mnist-cnn" in page
    assert "Against" not in summary_page(ledger)


def test_names_from_strangers_stay_text() -> None:
    ledger = summarize("lenet5")
    evil = "<script>alert(1)</script>"
    rows = (replace(ledger.rows[0], name=evil, kind=evil), *ledger.rows[1:])
    page = summary_page(replace(ledger, model=evil, rows=rows, uncounted=(evil,)))
    assert "script" not in Cells(page).tags
    assert page.count("&lt;script&gt;") >= 4


def test_control_characters_in_names_are_shown() -> None:
    ledger = summarize("lenet5")
    evil = "a\x1b[31m"
    rows = (replace(ledger.rows[0], name=evil, kind=evil), *ledger.rows[1:])
    page = summary_page(replace(ledger, model=evil, rows=rows, uncounted=(evil,)))
    assert "\x1b" not in page
    assert page.count(r"a\x1b[31m") >= 4


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("name", ["resnet152", "perceptron"])
def test_pages_stay_small(name: str) -> None:
    assert len(summary_page(summarize(name)).encode()) < 1_000_000
