"""The diagram: every layer has its box, nothing overlaps, names cannot break out."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from quick import few_quick
from striate import summarize
from striate.account.field.effective import EffectiveField, measure_field
from striate.account.ledger import Ledger, Row
from striate.visualize.network_boxes import MOST_BOXES, network_boxes
from striate.visualize.network_diagram import WIDTH, network_diagram

SVG = "{http://www.w3.org/2000/svg}"
ALL = ["lenet5", "vgg16", "resnet50", "googlenet", "densenet121", "small-unet"]
NETWORKS = few_quick(ALL, ["lenet5", "googlenet", "small-unet"])


def texts(svg: str) -> list[tuple[float, float, str]]:
    return [(float(t.get("x")), float(t.get("y")), t.text) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", NETWORKS)
def test_texts_do_not_overlap_and_stay_on_the_page(name: str) -> None:
    svg = network_diagram(summarize(name))
    height = float(ElementTree.fromstring(svg).get("height"))
    columns = sorted({x for x, _, _ in texts(svg)})
    for x in columns:
        lines = sorted((y, text) for column, y, text in texts(svg) if column == x)
        assert all(after - before >= 12 for (before, _), (after, _) in pairwise(lines))
        # Left of the widest box; right of it, up to the next column. Letters of 12 pixels are about 6.5 wide.
        room = 250 if x == 16 else min([other for other in columns if other > x] + [WIDTH]) - x
        assert [text for y, text in lines if 80 < y < height - 60 and 6.5 * len(text) > room] == []
    assert max(y for _, y, _ in texts(svg)) < height


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_that_ran_is_in_a_box(name: str) -> None:
    ledger = summarize(name)
    boxes = network_boxes(ledger)
    assert len(boxes) <= MOST_BOXES
    drawn = [row for row in ledger.rows if row.executed and row.kind != "flatten"]
    assert sum(box.layers for box in boxes) == len(drawn)
    assert sum(box.params for box in boxes) == sum(row.params for row in drawn)
    assert sum(box.macs for box in boxes) == ledger.macs


def test_boxes_tell_what_is_inside() -> None:
    boxes = {box.name: box for box in network_boxes(summarize("resnet50"))}
    assert boxes["conv1"].text == "conv 7×7 /2 · bn · relu"
    assert boxes["maxpool"].text == "pool 3×3 /2"
    assert boxes["layer2.0"].text == "conv 1×1 · 3×3 /2 · 1×1 | conv 1×1 /2"
    assert boxes["layer2.1"].text == "conv 1×1 · 3×3 · 1×1 | skip"
    assert boxes["layer2.0"].out_shape == (512, 28, 28)
    assert {box.stage for box in boxes.values()} >= {"layer1", "layer4"}
    inception = {box.name: box for box in network_boxes(summarize("googlenet"))}["inception3a"]
    assert (inception.text, inception.out_shape) == ("4 branches, 19 layers", (256, 28, 28))


def test_wider_maps_have_wider_boxes_and_more_channels_higher_ones() -> None:
    svg = ElementTree.fromstring(network_diagram(summarize("mnist-cnn")))
    maps = [(float(r.get("width")), float(r.get("height"))) for r in svg.iter(f"{SVG}rect") if r.get("class") == "map"]
    assert len(maps) == 4
    assert [w for w, _ in maps] == sorted((w for w, _ in maps), reverse=True)
    # 16, 16, 24 and 24 channels
    assert maps[0][1] == maps[1][1] < maps[2][1] == maps[3][1]


def row(name: str, kind: str = "conv", **fields) -> Row:
    return Row(name, kind, (1, 6, 6), fields.pop("out_shape", (2, 6, 6)), **fields)


def ledger(*rows: Row, model: str = "made") -> Ledger:
    zeros = (0, 0, 0, 0)
    return Ledger(model, (1, 6, 6), (2, 6, 6), rows, 0, 0, 0, (3, 3), (1, 1), *zeros, {}, {}, ())


def test_names_are_text() -> None:
    svg = network_diagram(ledger(row('<script>"&'), model="</svg><script>alert(1)</script>\x07"))
    assert "<script" not in svg
    assert ElementTree.fromstring(svg).tag == f"{SVG}svg"


def test_control_characters_in_names_are_shown_wherever_a_name_is_drawn() -> None:
    name = "a\x1b[31m\nb"
    field = EffectiveField(name, np.full((6, 6), 1 / 36), (0, 0), (6.0, 6.0), 1)
    svg = network_diagram(ledger(row(name), model=name), field)
    told = [text for _, _, text in texts(svg) if "x1b" in text]
    assert told == [r"a\x1b[31m\nb", r"a\x1b[31m\nb", r"Receptive field of a unit of a\x1b[31m\nb"]


def test_a_network_without_hierarchy_keeps_its_layers() -> None:
    rows = [row(f"conv{k}") for k in range(60)]
    assert len(network_boxes(ledger(*rows))) == 60


def test_no_row_and_no_map_can_be_drawn() -> None:
    assert "made" in network_diagram(ledger())
    assert "made" in str(ledger())
    assert "fc1" in network_diagram(summarize("mlp", (13,)))


@pytest.mark.parametrize(("model", "shape"), [("mnist-cnn", (1, 28, 28)), ("conv(4,5) relu conv(4,5) fc(2)", (1, 30)),
                                              ("conv(4,3) relu conv(4,3) fc(2)", (1, 8, 9, 10))])  # fmt: skip
def test_the_field_is_drawn_inside_the_page(model: str, shape: tuple[int, ...]) -> None:
    field = measure_field(model, shape)
    svg = ElementTree.fromstring(network_diagram(summarize(model, shape), field))
    (image,) = svg.iter(f"{SVG}image")
    box = {key: float(image.get(key)) for key in ("x", "y", "width", "height")}
    assert image.get("href").startswith("data:image/png;base64,")
    for kind in ("field", "theory"):
        (frame,) = (r for r in svg.iter(f"{SVG}rect") if r.get("class") == kind)
        for place, size in (("x", "width"), ("y", "height")):
            assert box[place] - 0.1 <= float(frame.get(place))
            assert float(frame.get(place)) + float(frame.get(size)) <= box[place] + box[size] + 0.1
    assert box["y"] + box["height"] < float(svg.get("height"))


def test_the_theoretical_field_lies_around_the_measured_one() -> None:
    svg = network_diagram(summarize("mnist-cnn"), measure_field("mnist-cnn", (1, 28, 28)))
    frames = {
        kind: re.search(rf'class="{kind}"[^>]*|<rect [^>]*class="{kind}"', svg).group() for kind in ("field", "theory")
    }
    sides = {
        kind: [float(v) for v in re.findall(r'(?:x|y|width|height)="([\d.]+)"', text)] for kind, text in frames.items()
    }
    (x, y, w, h), (tx, ty, tw, th) = sides["field"], sides["theory"]
    assert tx <= x + 0.1
    assert ty <= y + 0.1
    assert x + w <= tx + tw + 0.1
    assert y + h <= ty + th + 0.1


def test_a_field_without_its_row_has_no_theory() -> None:
    field = EffectiveField("elsewhere", np.full((6, 6), 1 / 36), (0, 0), (6.0, 6.0), 1)
    assert 'class="theory"' not in network_diagram(ledger(row("conv")), field)
