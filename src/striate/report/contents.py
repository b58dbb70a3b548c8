"""The table of contents of a page, made from its headings."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Template

PLACE = "<!-- contents -->\n"
FEWEST = 4
"""Of fewer headings nobody needs a list."""

# Names of strangers are escaped, so that only a template writes a heading.
_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


class PageTemplate(Template):
    """A template whose pages have a table of contents where `PLACE` stands."""

    def render(self, *arguments: Any, **values: Any) -> str:
        """The page as text."""
        return with_contents(super().render(*arguments, **values))


def with_contents(page: str) -> str:
    """The page with an id for each heading of the second level, and links to them."""
    names = [_TAG.sub("", inner).strip() for inner in _HEADING.findall(page)]
    if PLACE not in page or len(names) < FEWEST:
        return page.replace(PLACE, "")
    ids = [f"part-{number}" for number in range(1, len(names) + 1)]
    numbered = iter(ids)
    page = _HEADING.sub(lambda found: f'<h2 id="{next(numbered)}">{found[1]}</h2>', page)
    links = "".join(f'<li><a href="#{id_}">{name}</a></li>\n' for id_, name in zip(ids, names, strict=True))
    return page.replace(PLACE, f'<nav aria-label="Contents">\n<ul>\n{links}</ul>\n</nav>\n', 1)
