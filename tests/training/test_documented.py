"""docs/configuration.md lists every field with its default."""

from __future__ import annotations

import re
from pathlib import Path

from striate.training.config import Config
from striate.training.config_file import config_to_dict, field_names

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_every_field_is_in_the_page_with_its_default_and_no_other_is() -> None:
    listed = dict(
        re.findall(r"^\| `([a-z_.0-9]+)` \| ([^|]+?) \|", PAGE.read_text().split("## What the recipes")[0], re.M)
    )
    assert list(listed) == sorted(field_names(), key=list(listed).index)
    for name, shown in listed.items():
        value = config_to_dict(Config())
        for part in name.split("."):
            value = value[part]
        expected = "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        assert shown == expected.replace("'", ""), name
