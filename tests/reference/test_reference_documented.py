"""docs/reference.md names everything that is there, and its examples print what it says."""

import doctest
from pathlib import Path

from striate import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"


def test_every_public_name_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in reference.__all__ if name not in text] == []
    assert all(callable(getattr(reference, name)) for name in reference.__all__)


def test_the_examples_print_what_the_page_says():
    found = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert found.attempted > 10
    assert found.failed == 0
