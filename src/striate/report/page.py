"""What every HTML page of ours has: templates in which all is escaped, numbers as we write them, pictures inside."""

from __future__ import annotations

from base64 import b64encode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from striate import wording
from striate.errors import RunError, printable
from striate.report.contents import PageTemplate
from striate.visualize.page_parts import Picture


def page_environment(*packages: str) -> Environment:
    """The environment of templates in the folder `templates` of each of `packages`, those of the report after them.

    In them `number` and `percent` are filters. Pages with several headings get a table of contents.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates") for package in (*packages, "striate.report")]),
        # Everything is escaped: names of classes and files come from strangers.
        autoescape=True,
        # Control characters are shown; what is marked safe is our own.
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.template_class = PageTemplate
    environment.filters |= {"number": wording.number, "percent": wording.percent}
    return environment


def as_base64(picture: Picture) -> str:
    """The picture's file as text. Raises RunError."""
    try:
        return b64encode(picture.path.read_bytes()).decode("ascii")
    except OSError as error:
        raise RunError(
            str(picture.path), error.strerror or str(error), "a PNG picture", "write the report again"
        ) from error
