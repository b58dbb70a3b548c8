"""The rooms import in one direction, no modules import in circles, only tasks know tasks' names, and the light parts
never import torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

from quick import parsed_file
from striate.tasks.every import TASKS

SOURCE = Path(__file__).parent.parent / "src" / "striate"
FILES = sorted(SOURCE.rglob("*.py"))

# Each line may import from the lines above it, and from within its own room. Rooms on one line are strangers.
ORDER = [
    {"errors", "loading", "version"},
    {"notebook"},
    {"records"},
    {"wording"},
    {"machine", "statistics"},
    {"reference", "layers", "data"},
    {"runs"},
    {"observe"},
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
OUTSIDE = {"__init__", "__main__"}

# Files that still break a rule of `TASKS_ONLY`, or mean something else; a file that keeps it must leave its list.
NAMES_TASKS: set[str] = {
    "doctor/diagnose.py",
    "doctor/setup/training_setup.py",
    "cli/other_tools.py",  # a command of another program
    "reference/captions.py",  # the noun
}
COMPARES_ANNOTATION: set[str] = set()
IGNORES_255: set[str] = set()
# Hooks outside of the tracer that observe nothing: where they are, and why they stay.
HOOKS = {
    "doctor/setup/replicas.py": "hooks of the user's own parameters are carried over to those of a copy",
}


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def path_of(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file) for file in FILES}


@cache
def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def statements(tree: ast.AST, *, typing: bool) -> Iterator[ast.AST]:
    """All statements, those in functions too; without `typing`, not what only type checkers read."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        only_typing = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        inside = node.orelse if only_typing and not typing else ast.iter_child_nodes(node)
        left += [child for child in inside if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case)]


def imports_of(file: Path, *, typing: bool = True) -> set[str]:
    """Full names of what a file imports: of modules, and of what is taken from them."""
    names: set[str] = set()
    for node in statements(parsed_file(file), typing=typing):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@cache
def modules_used(file: Path) -> set[str]:
    """Modules of striate that a file imports at any time, also in a function or by their name in a string."""
    used: set[str] = set()
    for name in imports_of(file, typing=False):
        used.add(name if name in MODULES else name.rpartition(".")[0])
    for node in ast.walk(parsed_file(file)) if '"striate.' in text_of(file) else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("striate."):
            used.add(node.value.partition(":")[0])
    return (used & MODULES) - {module_of(file)}


def circles(graph: dict[str, set[str]]) -> list[str]:
    """`a → b → a` for circles of a graph, one after the other, until the graph has none without what was named."""
    left, found = {name: set(used) for name, used in graph.items()}, []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]
            found.append(" → ".join(circle))
            left[circle[0]].discard(circle[1])
        else:
            return found


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room_of(f) for f in FILES} - OUTSIDE <= set(LEVEL)


def test_imports_go_one_way() -> None:
    wrong = [
        f"{path_of(file)} imports {name}: {room_of(file)} may not know {other}"
        for file in FILES
        if room_of(file) not in OUTSIDE
        for name in sorted(imports_of(file))
        if name.startswith("striate.")
        for other in [name.split(".")[1]]
        if other != room_of(file) and LEVEL.get(other, len(ORDER)) >= LEVEL[room_of(file)]
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_do_not_import_in_circles() -> None:
    found = circles({module_of(file): modules_used(file) for file in FILES})
    assert not found, "\n".join(found)


def test_folders_of_a_room_do_not_import_in_circles() -> None:
    def folder(module: str) -> str:
        return ".".join(module.split(".")[:3])

    graph: dict[str, set[str]] = {}
    for file in FILES:
        here = folder(module_of(file))
        graph.setdefault(here, set()).update({folder(name) for name in modules_used(file)} - {here})
    found = circles(graph)
    assert not found, "\n".join(found)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b → c → b"], ["c → b → c"])
    assert len(circles({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c"}})) == 2


def tasks_by_name(tree: ast.Module) -> Iterator[int]:
    """Lines with the name of a task as a string, docstrings excluded."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        named = isinstance(node, ast.Constant) and node.value in TASKS
        if named and id(node) not in docstrings:
            yield node.lineno


def annotation_kinds(tree: ast.Module) -> Iterator[int]:
    """Lines that compare an attribute `annotation` with a constant, or match it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Match) and getattr(node.subject, "attr", "") == "annotation":
            yield node.lineno
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        constant = any(isinstance(part, ast.Constant) for side in sides for part in ast.walk(side))
        if constant and any(isinstance(side, ast.Attribute) and side.attr == "annotation" for side in sides):
            yield node.lineno


def ignored_values(tree: ast.Module) -> Iterator[int]:
    """Lines of statements with the number 255 and a name with `ignor` in it."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.stmt):
            parts = list(_own_parts(statement))
            number = any(isinstance(part, ast.Constant) and part.value == 255 for part in parts)
            names = [getattr(part, key, None) for part in parts for key in ("id", "attr", "arg")]
            if number and any("ignor" in name.lower() for name in names if isinstance(name, str)):
                yield statement.lineno


def _own_parts(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a statement, without the statements in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt):
            yield child
            yield from _own_parts(child)


_HOOK = re.compile(r"register_(module_)?(forward|full_backward)_(pre_)?hook|register_hook|Torch(Function|Dispatch)Mode")


def hooks_of(tree: ast.Module) -> Iterator[int]:
    """Lines that register a hook of a module or a tensor, or define a mode of torch."""
    for node in ast.walk(tree):
        if _HOOK.fullmatch(getattr(node, "attr", getattr(node, "id", ""))):
            yield node.lineno  # type: ignore[attr-defined]


def test_only_the_tracer_registers_hooks() -> None:
    outside = [file for file in FILES if room_of(file) != "observe" and _HOOK.search(text_of(file))]
    found = {path_of(file): sorted(hooks_of(parsed_file(file))) for file in outside}
    found = {path: lines for path, lines in found.items() if lines}
    new = [
        f"{path}:{lines[0]} has a hook: striate.observe watches" for path, lines in found.items() if path not in HOOKS
    ]
    kept = [f"{path} has no hook any more: take it from HOOKS" for path in sorted(set(HOOKS) - set(found))]
    assert not new + kept, "\n".join(new + kept)


TASKS_ONLY: dict[str, tuple[Callable[[ast.Module], Iterator[int]], str, set[str]]] = {
    "the name of a task": (tasks_by_name, f"""["']({"|".join(TASKS)})["']""", NAMES_TASKS),
    "a kind of annotation": (annotation_kinds, "annotation", COMPARES_ANNOTATION),
    "the value of ignored pixels": (ignored_values, "255", IGNORES_255),
}
"""What finds it in a file that has such text, and the files that may have it."""


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("what", TASKS_ONLY)
def test_only_tasks_and_data_know(what: str) -> None:
    lines_of, text, allowed = TASKS_ONLY[what]
    outside = [file for file in FILES if room_of(file) not in ("tasks", "data") and re.search(text, text_of(file))]
    found = {path_of(file): sorted(set(lines_of(parsed_file(file)))) for file in outside}
    found = {path: lines for path, lines in found.items() if lines}
    new = [f"{path}:{lines[0]} has {what}" for path, lines in found.items() if path not in allowed]
    kept = [f"{path} has {what} no more: take it from the list" for path in sorted(allowed - set(found))]
    assert not new + kept, "\n".join(new + kept)


PLANTED = [
    (tasks_by_name, 'def f(task):\n    """segment"""\n    return task.name == "segment"\n', [3]),
    (tasks_by_name, 'KINDS = ("classify", "other")\n', [1]),
    (annotation_kinds, 'a = data.annotation != "mask"\nb = data.annotation in ("class", "number")\n', [1, 2]),
    (annotation_kinds, "same = data.annotation == other.annotation\n", []),
    (ignored_values, "def f(x, ignore=255):\n    return x\n", [1]),
    (ignored_values, "seen = y != 255\nwhite = 255\nignored = 3\n", []),
    (ignored_values, "loss = entropy(x, y, ignore_index=255)\n", [1]),
    (hooks_of, "handle = layer.register_forward_hook(print)\nx.register_hook(print)\n", [1, 2]),
    (hooks_of, "class Mode(TorchFunctionMode):\n    pass\n", [1]),
    (hooks_of, 'said = "x.register_hook"\noptimizer.register_step_pre_hook(print)\n', []),
]


@pytest.mark.parametrize(("lines_of", "code", "lines"), PLANTED)
def test_planted_knowledge_is_found(
    lines_of: Callable[[ast.Module], Iterator[int]], code: str, lines: list[int]
) -> None:
    assert sorted(lines_of(ast.parse(code))) == lines


LIGHT = [
    "import striate; striate.api",
    "from striate.cli.main import make_app; make_app()",
    "import striate.training.config, striate.training.config_file",
    "import striate.models.layer_strings.layer_string, striate.models.registry",
    "from striate.cli.main import main; main(['--help'])",
    "from striate.cli.main import main; main(['train', '--help'])",
]


@pytest.mark.each_nth(3)
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


def test_no_module_of_the_public_functions_has_the_name_of_one() -> None:
    """A package sets its imported modules as attributes, which would replace the function from its second use on."""
    from striate import api

    for name in (*api.__all__, *api.__all__):
        assert not isinstance(getattr(api, name), ModuleType), name
    assert set(api.__all__) <= set(dir(api))
