"""Maps whose points can be clicked: what a color means is said, and no form is shared by the first classes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from striate.visualize.cluster_panels import cluster_panel


@pytest.mark.parametrize("classes", [2, 30])
def test_classes_have_a_legend_with_the_color_and_the_form_of_their_points(classes):
    n = 60
    labels = [f"<{k % classes:02}>" for k in range(n)]
    points, images = np.random.default_rng(0).random((n, 2)), np.zeros((n, 1, 4, 4), np.uint8)
    near = np.zeros((n, 1), np.int64), np.zeros((n, 1))
    page = cluster_panel([("PCA", points)], [str(k) for k in range(n)], labels, images, near)
    root = ElementTree.fromstring(f"<div>{re.sub(' tabindex=-1|<br>', '', page)}</div>")
    (entries,) = root.iter("ul")
    named = {"".join(entry.itertext()): entry for entry in entries}
    assert list(named) == sorted(set(labels))[:24] + (["and 6 more"] if classes == 30 else [])
    marks = {}
    for path in root.iterfind("svg/a/path"):
        marks.setdefault(path.findtext("title"), set()).add((path.get("fill"), path.get("d")))
    assert all(len(own) == 1 for own in marks.values())
    for name in list(named)[:24]:
        shown = next(named[name].iter("path"))
        assert {(shown.get("fill"), shown.get("d"))} == marks[name]
    forms = [next(iter(marks[name]))[1] for name in sorted(marks)[:6]]
    assert len(set(forms)) == len(forms)
