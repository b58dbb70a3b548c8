"""The signal in the report: its table, its picture, its file."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from made_runs import classification, make_content

from striate.account.signal.trace import SignalRow
from striate.report.signal import draw_signal, signal_table
from striate.report.write import render_report

START = (SignalRow("conv<1>", "weights", 8, 0.5, 1.25, 0.1), SignalRow("relu1", "relu", 8, 0.5, 1.0, None, None, 0.25))
END = (SignalRow("conv<1>", "weights", 8, 0.5, 3.5, 0.1),)


def test_the_table_has_start_and_end():
    first, second = signal_table(START, END).rows
    assert first == ("conv<1>", "weights", "0.5", "1.25", "0.2828", "–", "–", "3.5", "–")
    assert second[4:] == ("–", "–", "25.0 %", "–", "–")
    assert "2 of 2 layers" in signal_table(START, END).caption


@pytest.mark.slow
def test_the_report_shows_it_only_where_it_was_measured(tmp_path):
    content = make_content(tmp_path, classification())
    assert "Signal through the layers" not in render_report(content)
    picture = draw_signal(tmp_path, START, END, "d")
    shown = render_report(replace(content, pictures=(*content.pictures, picture), signal=signal_table(START, END)))
    assert re.search("<summary>Signal through the layers</summary>", shown)
    assert "conv&lt;1&gt;" in shown
