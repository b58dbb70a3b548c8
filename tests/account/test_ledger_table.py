"""The terminal table: nothing wider than it may be, nothing lost, totals that are sums."""

from __future__ import annotations

import re

import pytest
from made_ledgers import made_ledger, made_row

from striate import summarize
from striate.account.comparison import compare_ledgers
from striate.account.ledger import group_rows, ledger_table, module_output
from striate.account.table import laid_out
from striate.records import Finding

NETWORKS = ["resnet18", "densenet121", "googlenet(aux=True)", "alexnet", "mnist-cnn"]


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_line_is_wider_than_asked(name: str, width: int) -> None:
    text = ledger_table(summarize(name), width)
    table = text.split("\nnetwork")[0] if width < 80 else text
    # Below 80 the numbers alone take the room; names keep 14 letters.
    assert max(map(len, table.splitlines())) <= max(width, 74)
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_str_of_a_ledger_is_its_table_and_has_every_layer_and_remark() -> None:
    ledger = summarize("mnist-cnn")
    text = str(ledger)
    for row in ledger.rows:
        assert re.search(rf"^{row.name} .* {row.params:,} ", text, re.MULTILINE)
    words = " ".join(text.split())
    for remark in ledger.remarks:
        assert " ".join(f"{remark.measured}. {remark.why} {remark.remedy}".split()) in words
    assert "\u00a0" not in text


def test_totals_say_their_units() -> None:
    words = " ".join(str(summarize("mnist-cnn")).split())
    assert "870,016 multiply–accumulates of convolutions and matrix products, biases excluded" in words
    assert "1,740,032 = 2 × MACs" in words
    assert "a unit of the last map sees 16×16 input positions; neighboring units are 4 positions apart" in words
    assert "uncounted nothing" in words


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_groups_sum_up_to_the_totals(depth: int) -> None:
    ledger = summarize("resnet18")
    lines = group_rows(ledger.rows, depth)
    assert sum(line.params for line in lines) == ledger.params
    assert sum(line.macs for line in lines) == ledger.macs
    assert len({line.name for line in lines}) == len(lines)


def test_a_group_is_its_module() -> None:
    lines = {line.name: line for line in group_rows(summarize("resnet18").rows, 1)}
    assert list(lines) == ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    assert lines["layer2"].out_shape == (128, 28, 28)
    assert lines["layer2"].receptive_field == (99, 99)
    assert lines["layer2"].kind == "14 layers"
    assert lines["conv1"].kind == "conv"


def test_where_branches_meet_the_module_gives_what_comes_after() -> None:
    lines = {line.name: line for line in group_rows(summarize("googlenet").rows, 1)}
    assert lines["inception3a"].out_shape == (256, 28, 28)
    chain = [made_row("a.0"), made_row("a.1", in_shape=(4, 8, 8))]
    assert module_output(chain, made_row("b", in_shape=(9, 8, 8))) == (4, 8, 8)


def test_a_module_used_twice_has_two_lines() -> None:
    lines = group_rows([made_row("a", params=3), made_row("a", in_shape=(4, 8, 8))], None)
    assert [(line.name, line.params) for line in lines] == [("a", 3), ("a", 0)]


def test_no_name_begins_a_line_of_its_own_or_commands_the_terminal() -> None:
    evil = "a\ntotal        0\x1b[8m"
    remark = Finding("account.made", "note", evil, evil, "", evil, "")
    ledger = made_ledger(made_row(evil, kind=evil), made_row("b"), model=evil, uncounted=(evil,), remarks=(remark,))
    for text in (str(ledger), str(compare_ledgers(ledger, ledger))):
        assert all(line.isprintable() for line in text.splitlines())
        assert sum(line.startswith("total ") for line in text.splitlines()) == (text == str(ledger))
    assert r"a\ntotal" in str(ledger)


def test_what_never_ran_says_so() -> None:
    ledger = made_ledger(made_row("a", params=7), made_row("head", "fc", out_shape=(), executed=False, params=9))
    assert re.search(r"^head +not run +– +9 56 ", str(ledger), re.MULTILINE)


def test_measured_field_and_uncounted_are_told() -> None:
    ledger = made_ledger(made_row("a"), effective_receptive_field=(5.0, 4.0), uncounted=("fft in a", "sort in b"))
    words = " ".join(str(ledger).split())
    assert "effective the central 5×4 have 95.45 %" in words
    assert "uncounted fft in a; sort in b" in words


def test_remarks_can_be_left_out() -> None:
    ledger = summarize("mnist-cnn")
    assert str(ledger).startswith(ledger_table(ledger, remarks=False))
    assert "note" not in ledger_table(ledger, remarks=False)


def test_long_paths_keep_their_numbers() -> None:
    rows = [("layer", "n"), *((f"features.denseblock{k}.denselayer1{k}.norm1", "1") for k in range(1, 5))]
    lines = laid_out(rows, ("left", "right"), 30).splitlines()
    assert max(map(len, lines)) <= 30
    assert len(set(lines)) == 6
