"""The rooms import in one direction, and the light parts never import torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "striate"

# Each line may import from the lines above it, and from within its own room. Rooms on one line are strangers.
ORDER = [
    {"errors", "loading", "version"},
    {"notebook"},
    {"records"},
    {"wording"},
    {"machine", "statistics"},
    {"reference", "layers", "data"},
    {"runs"},
    {"models"},
    {"account"},
    {"inference"},
    {"visualize"},
    {"tasks"},
    {"training"},
    {"evaluation"},
    {"doctor"},
    {"report"},
    {"studies"},
    {"exporting", "serving"},
    {"api"},
    {"lab"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
# A config class is plain data that the configuration tree is made of; who owns it does not matter to who reads it.
OUTSIDE = {"__init__", "__main__"}


def imports_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = sorted(SOURCE.rglob("*.py"))


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room_of(f) for f in FILES} - OUTSIDE <= set(LEVEL)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_go_one_way(file: Path) -> None:
    room = room_of(file)
    if room in OUTSIDE:
        return
    for name in imports_of(file):
        parts = name.split(".")
        if parts[0] != "striate" or len(parts) == 1:
            continue
        other = parts[1]
        allowed = other == room or LEVEL[other] < LEVEL[room]
        assert allowed, f"{file.relative_to(SOURCE)} imports {name}: {room} may not know {other}"


LIGHT = [
    "import striate",
    "from striate.cli.main import make_app; make_app()",
    "import striate.training.config, striate.training.config_file",
    "import striate.models.layer_strings.layer_string, striate.models.registry",
    "from striate.cli.main import main; main(['--help'])",
    "from striate.cli.main import main; main(['train', '--help'])",
]


@pytest.mark.parametrize("statement", LIGHT)
def test_light_parts_do_not_import_torch(statement: str) -> None:
    code = f"import sys\n{statement}\nassert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_there_and_nothing_else() -> None:
    import striate

    for name in striate.__all__:
        assert getattr(striate, name) is not None
    assert set(striate.__all__) <= set(dir(striate))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = striate.nonsense
