from __future__ import annotations

import pytest
from made_runs import classification, make_content


@pytest.fixture(scope="session")
def content(tmp_path_factory):
    """A frozen report of a classification, its pictures drawn once."""
    return make_content(tmp_path_factory.mktemp("plots"), classification())
