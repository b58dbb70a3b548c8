"""Shared by all HTML pages: templates that escape everything, filters for numbers, embedded pictures, and the table of
contents, which is made from the headings."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

from striate import wording
from striate.errors import RunError, printable
from striate.runs.plain_files import read_bytes
from striate.visualize.page_parts import Picture

PLACE = "<!-- contents -->\n"
FEWEST = 4
"""Smallest number of headings for a table of contents."""

# Names of classes and files are escaped, so that only a template writes a heading.
_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


class PageTemplate(Template):
    """A template whose pages have a table of contents at `PLACE`."""

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


def page_environment(*packages: str) -> Environment:
    """The environment of templates in the folders `templates` of `packages` and of the report.

    `number` and `percent` are filters. Pages with several headings get a table of contents.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates") for package in (*packages, "striate.report")]),
        # Everything is escaped: names of classes and files come from strangers.
        autoescape=True,
        # Control characters are shown; only our own text is marked as safe.
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.template_class = PageTemplate
    environment.filters |= {"number": _number, "percent": wording.percent}
    return environment


def _number(value: object) -> str:
    """A number for reading, also one that is written already, with a true minus sign."""
    return re.sub(r"^-(?=\d)", "−", wording.number(value))


def as_base64(picture: Picture) -> str:
    """The picture's file as text. Raises RunError."""
    try:
        return b64encode(read_bytes(picture.path)).decode("ascii")
    except OSError as error:
        raise RunError(
            str(picture.path), error.strerror or str(error), "a PNG picture", "write the report again"
        ) from error
