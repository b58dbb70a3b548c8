"""The browser of these tests notices what is wrong with a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD = "<!doctype html><html lang=en><title>Good</title><main><h1>Good</h1></main></html>"
BAD = """<!doctype html><html><main><h1>Bad</h1>
<img src="http://192.0.2.1/picture.png"><div style="width:3000px">.</div>
<script>console.error("broken"); nothing.at.all</script></main></html>"""


def test_a_page_without_fault(visit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(GOOD)
    seen = visit(tmp_path / "page.html")
    assert (seen.errors, seen.strangers, seen.violations(), seen.too_wide()) == ([], [], [], 0)


def test_faults_are_noticed(visit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(BAD.replace("http://192.0.2.1", "http://localhost:9"))
    seen = visit(tmp_path / "page.html", width=380)
    assert "broken" in seen.errors
    assert any("nothing" in error for error in seen.errors)
    assert seen.strangers == ["http://localhost:9/picture.png"]
    assert {one.split(":")[0] for one in seen.violations()} >= {"document-title", "html-has-lang", "image-alt"}
    assert seen.too_wide() > 2000
