"""Two ledgers beside each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_ledgers import made_ledger, made_row

from striate import summarize
from striate.account.comparison import align, compare_ledgers, comparison_table, show_ratio


def names(pairs: list) -> list[tuple[str | None, str | None]]:
    return [tuple(row.name if row else None for row in (pair.first, pair.second)) for pair in pairs]


def test_ratios_are_the_first_over_the_second() -> None:
    comparison = compare_ledgers(summarize("resnet18"), summarize("resnet34"))
    totals = {total.name: total for total in comparison.totals}
    assert (totals["parameters"].first, totals["parameters"].second) == (11_689_512, 21_797_672)
    assert totals["parameters"].ratio == pytest.approx(0.53627, rel=1e-4)
    assert totals["receptive field"].shown == ("435", "899")
    assert totals["FLOPs"].first == 2 * totals["MACs"].first


def test_layers_of_relatives_correspond_by_name() -> None:
    pairs = names(compare_ledgers(summarize("resnet18"), summarize("resnet34")).pairs)
    assert ("layer2.1.conv2", "layer2.1.conv2") in pairs
    assert (None, "layer2.2.conv1") in pairs
    assert pairs[-1] == ("fc", "fc")


def test_layers_of_strangers_correspond_by_kind_in_order() -> None:
    first = [made_row("a", "conv"), made_row("b", "relu"), made_row("c", "fc")]
    second = [made_row("x", "conv"), made_row("y", "bn"), made_row("z", "relu"), made_row("w", "fc")]
    assert names(align(first, second)) == [("a", "x"), (None, "y"), ("b", "z"), ("c", "w")]


def test_layers_of_the_same_place_correspond_though_a_longer_run_agrees_elsewhere() -> None:
    net = "conv(6,5) relu pool(2) conv(16,5) relu pool(2) fc(120) relu fc(84) relu fc(10)"
    small = "conv(16,3) bn relu conv(16,3) bn relu pool(2) conv(32,3) bn relu pool(2) fc(64) relu fc(10)"
    pairs = names(compare_ledgers(summarize(net, (1, 28, 28)), summarize(small, (1, 28, 28))).pairs)
    working = [pair for pair in pairs if (pair[0] or pair[1]).startswith(("conv", "fc"))]
    assert working == [
        *(("conv1", "conv1"), ("conv2", "conv2"), (None, "conv3"), ("fc1", "fc1"), ("fc2", "fc2"), ("fc3", None)),
    ]


def most_pairs(first: str, second: str) -> int:
    """The length of a longest common subsequence, from its definition."""
    if not first or not second:
        return 0
    here = 1 + most_pairs(first[1:], second[1:]) if first[0] == second[0] else 0
    return max(here, most_pairs(first[1:], second), most_pairs(first, second[1:]))


@given(st.text("cfr", max_size=7), st.text("cfr", max_size=7))
def test_as_many_layers_correspond_as_can(first: str, second: str) -> None:
    rows = [
        [made_row(f"{side}{k}", kind, params=9 * (kind != "r")) for k, kind in enumerate(kinds)]
        for side, kinds in (("a", first), ("b", second))
    ]
    pairs = align(*rows)
    assert [pair.first for pair in pairs if pair.first] == rows[0]
    assert [pair.second for pair in pairs if pair.second] == rows[1]
    matched = [pair for pair in pairs if pair.first and pair.second]
    assert all(pair.first.kind == pair.second.kind for pair in matched)
    working = sum(pair.first.params > 0 for pair in matched)
    assert working == most_pairs(first.replace("r", ""), second.replace("r", ""))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("other", ["alexnet", "lenet5", "resnet18"])
def test_every_row_of_both_is_there_once_and_in_order(other: str) -> None:
    a, b = summarize("resnet18"), summarize(other)
    pairs = compare_ledgers(a, b).pairs
    assert [pair.first for pair in pairs if pair.first] == list(a.rows)
    assert [pair.second for pair in pairs if pair.second] == list(b.rows)
    assert all(pair.first.kind == pair.second.kind for pair in pairs if pair.first and pair.second)


def test_json_holds_both() -> None:
    document = compare_ledgers(summarize("lenet5"), summarize("mnist-cnn")).to_json()
    assert (document["model"], document["against"]["model"]) == ("lenet5", "mnist-cnn")
    assert document["ratios"]["parameters"] == 61_706 / 35_330
    assert ["conv1", "conv1"] in document["layers"]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("other", ["alexnet", "densenet121", "mnist-cnn"])
def test_the_table_fits_and_says_what_it_leaves_out(other: str) -> None:
    comparison = compare_ledgers(summarize("resnet18"), summarize(other))
    lines = comparison_table(comparison).splitlines()
    assert max(map(len, lines)) <= 80
    hidden = [p for p in comparison.pairs if not any(r and (r.params or r.macs) for r in (p.first, p.second))]
    assert lines[-1].startswith(f"{len(hidden)} layers without")
    assert str(comparison) == "\n".join(lines)


def test_names_that_are_shortened_to_the_same_have_letters() -> None:
    nets = [f"conv(8,3) relu {middle} relu pool(2) conv(16,3) relu pool(2) fc(10)" for middle in ("conv(8,5)", "lrn")]
    lines = comparison_table(compare_ledgers(*(summarize(net, (1, 28, 28)) for net in nets))).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:2] == [f"A: {nets[0]}", f"B: {nets[1]}"]
    assert any(line.split() == ["A", "B", "ratio"] for line in lines)
    assert "Ratios: A over B. +: only in A. −: only in B." in lines


def test_long_names_that_differ_are_wrapped_in_the_legend() -> None:
    nets = ["conv(8,3) relu conv(8,3) relu fc(10)", "fc(10) relu fc(20) relu conv(8,3) relu fc(10)"]
    made = [made_ledger(made_row("conv1", params=5, macs=9), model=net) for net in nets]
    lines = comparison_table(compare_ledgers(*made)).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("over" in line or "only in" in line for line in lines) == 2


def test_nothing_to_divide_by() -> None:
    plain, other = made_ledger(made_row("a")), made_ledger(made_row("b", params=5, macs=9))
    ratios = compare_ledgers(other, plain).to_json()["ratios"]
    assert ratios["parameters"] is None
    assert [show_ratio(*pair) for pair in ((1, 0), (1, 3), (2, 1), (5000, 1))] == ["–", "0.333", "2", "5.00 k"]
