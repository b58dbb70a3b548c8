"""How right the doctor is on training scripts that were written before its checks were read.

Command: python benchmarks/doctor_stranger.py [--part train|validation|test|rest|all|healthy|development|published|
setups] [--names NAME …] [--kept benchmarks/results/doctor_first_met.jsonl]

benchmarks/doctor_scripts holds healthy scripts in the idioms of public ones and `faults.toml`, edits that plant
one fault each. A fault belongs to the part crc32(its name) % 3: 0 train (checks were mended with it), 1 validation, 2
test (the checks were not). `development`: the healthy scripts and faults of benchmarks/doctor_scripts_dev, the newest
sets with which the checks were mended; `all` leaves them out. `published`: benchmarks/doctor_published, the fault lists
that five tools for Keras published, translated; `lists` names the items that a fault stands for, and a table counts
them by list. `setups`: benchmarks/doctor_setups, whose functions `setup()` return what `striate.diagnose` is given. An
edit of the family `healthy` plants nothing. Each script is examined by `striate doctor` in a process
of its own; where nothing is found and the script trains in other loops too, these are examined as it says, with
`--training 2` and 3. A fault is right where the first finding has one of its codes. Needs
lightning and transformers for the scripts in their idiom. doctor_first_met.jsonl and doctor_setups_first_met.jsonl have
the rows of sets as they were met first, before the checks were mended with them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
import tempfile
import tomllib
import zlib
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "doctor_scripts"
DEVELOPMENT = ROOT / "benchmarks" / "doctor_scripts_dev"
PUBLISHED = ROOT / "benchmarks" / "doctor_published"
SETUPS = ROOT / "benchmarks" / "doctor_setups"
_LOOPS = 3
PARTS = ("train", "validation", "test")


def part_of(name: str) -> str:
    """The part of a fault, by its name."""
    return PARTS[zlib.crc32(name.encode()) % 3]


def scripts(folder: Path = FOLDER) -> dict[str, tuple[str, str, str, list[str]]]:
    """Of each case in a folder its part, family, text and right codes."""
    fixed = {DEVELOPMENT: "development", PUBLISHED: "published", SETUPS: "setups"}.get(folder, "")
    cases = {
        p.stem: (f"{fixed}-healthy" if fixed else "healthy", "healthy", p.read_text(), [])
        for p in sorted(folder.glob("*.py"))
        if p.stem != "toydata"
    }
    for name, fault in tomllib.loads((folder / "faults.toml").read_text()).items():
        text = (folder / f"{fault['script']}.py").read_text()
        for old, new in fault["replace"]:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        healthy = f"{fixed}-healthy" if fixed else "development-healthy"
        part = healthy if fault["family"] == "healthy" else fixed or part_of(name)
        cases[name] = part, fault["family"], text, fault["codes"]
    return cases


def given_to_diagnose(script: Path, seconds: float) -> int:
    """Print the document of the diagnosis of what the function `setup` of a file returns."""
    import striate

    sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module  # dataclasses look there
    spec.loader.exec_module(module)
    print(json.dumps(striate.diagnose(**module.setup(), budget_seconds=seconds).to_json()))
    return 0


def examined(name: str, text: str, seconds: float, training: int = 1, *, whole: bool = True) -> dict[str, Any]:
    """The document of the diagnosis, from a process that is forked: libraries are read once. `whole`: a script, else a
    function that returns what `diagnose` is given."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "toydata.py").symlink_to(FOLDER / "toydata.py")
        script, answer = Path(folder) / f"{name.replace('-', '_')}.py", Path(folder) / "answer.json"
        script.write_text(text)
        began = perf_counter()
        child = os.fork()
        if not child:
            from striate.doctor import __main__ as program

            os.chdir(folder)
            with answer.open("w") as out, Path(os.devnull).open("w") as nowhere:
                os.dup2(out.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
                asked = [script.name, "--json", "--seconds", str(seconds), "--training", str(training)]
                code = program.main(asked) if whole else given_to_diagnose(script, seconds)
                sys.stdout.flush()
                os._exit(code)
        os.waitpid(child, 0)
        took = perf_counter() - began
        lines = answer.read_text().strip().splitlines()
    document = json.loads(lines[-1]) if lines else {"error": {"where": "crash", "got": "no document"}}
    others = document.get("elsewhere") or ()
    if training <= min(len(others), _LOOPS - 1) and document["verdict"] != "unhealthy":
        later = examined(name, text, seconds, training + 1)
        return document | {"seconds": round(took, 2)} if isinstance(later.get("error"), dict) else later
    return document | {"seconds": round(took, 2)}


def wilson(hits: int, count: int) -> str:
    """A share with its interval of 95 % (Wilson 1927)."""
    if not count:
        return "–"
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return f"{hits}/{count} = {100 * share:.0f} % ({100 * max(0, middle - half):.0f}–{100 * min(1, middle + half):.0f})"


def judged(name: str, case: tuple[str, str, str, list[str]], seconds: float) -> dict[str, Any]:
    """A row: what was found first, and whether that is right."""
    part, family, text, right = case
    document = examined(name, text, seconds, whole=not part.startswith("setups"))
    findings = [(f["severity"], f["code"]) for f in document.get("findings", [])]
    loud = [code for severity, code in findings if severity != "note"]
    error = document["error"] if isinstance(document.get("error"), dict) else None
    if error is not None:
        loud = [str(error["where"])]
    ok = not loud if family == "healthy" else bool(loud) and loud[0] in right
    said = f"{error['got']}"[:300] if error is not None else ""
    return {
        "name": name,
        "part": part,
        "family": family,
        "ok": ok,
        "found": findings,
        "error": said,
        "verdict": document.get("verdict", ""),
        "seconds": document["seconds"],
        "failed": [code for code, why in document.get("skipped", {}).items() if why.startswith("the check itself")],
        "no_time": sum("ran out" in why for why in document.get("skipped", {}).values()),
    }


def spoke(row: dict[str, Any]) -> bool:
    """Whether there is a warning or an error, or the script was refused."""
    return bool(row["error"]) or any(severity != "note" for severity, _ in row["found"])


def first_loud(row: dict[str, Any]) -> tuple[str, str]:
    """Severity and code of the first finding that is no note."""
    severity, code = next(found for found in row["found"] if found[0] != "note")
    return severity, code


def room_of(row: dict[str, Any]) -> str:
    """What the first finding is about: `data`, `loss` and so on."""
    return first_loud(row)[1].partition(".")[0]


def tables(rows: list[dict[str, Any]]) -> str:
    """Shares with intervals: of faults by part and by family, of first findings by what they are about."""
    lines = ["| | First finding right | Where it spoke | Named at all | Silent |", "|---|---|---|---|---|"]
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["family"] != "healthy":
            groups[f"part: {row['part']}"].append(row)
            groups[row["family"]].append(row)
    for group, members in sorted(groups.items(), key=lambda item: (not item[0].startswith("part"), item[0])):
        right, loud = sum(r["ok"] for r in members), sum(map(spoke, members))
        named = sum(r["ok"] or r["named"] for r in members)
        lines.append(
            f"| {group} | {wilson(right, len(members))} | {wilson(right, loud)} | {named}/{len(members)} | "
            f"{len(members) - loud} |"
        )
    lines += ["", "| First findings | Right, if an error | Right, if a warning |", "|---|---|---|"]
    rooms = sorted({room_of(r) for r in rows if spoke(r) and not r["error"]})
    for room in rooms:
        of = [r for r in rows if spoke(r) and not r["error"] and room_of(r) == room]
        told = [[r["ok"] for r in of if first_loud(r)[0] == severity] for severity in ("error", "warning")]
        lines.append(f"| `{room}.*` | " + " | ".join(wilson(sum(one), len(one)) for one in told) + " |")
    healthy = [r for r in rows if r["family"] == "healthy"]
    alarmed = sum(not r["ok"] for r in healthy)
    proven = sum(r["verdict"] == "healthy" for r in healthy)
    lines += [
        "",
        f"Healthy scripts with a warning or error: {wilson(alarmed, len(healthy))}; called healthy: "
        f"{wilson(proven, len(healthy))}.",
    ]
    loud = [r for r in rows if spoke(r)]
    first = sum(r["ok"] for r in loud)
    lines.append(f"Where there is a warning or an error, the first one is right in {wilson(first, len(loud))}.")
    for severity in ("error", "warning"):
        said = [r for r in loud if not r["error"] and first_loud(r)[0] == severity]
        lines.append(f"First findings, {severity}s: right in {wilson(sum(r['ok'] for r in said), len(said))}.")
    return "\n".join(lines)


def by_list(rows: list[dict[str, Any]]) -> str:
    """Of each tool's published items that stand on an edit, how many are named first, and at all."""
    faults = tomllib.loads((PUBLISHED / "faults.toml").read_text())
    known = {row["name"]: row for row in rows}
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for name, fault in faults.items():
        for item in fault["lists"] if name in known else ():
            count, row = counted[item.partition(":")[0]], known[name]
            count[0], count[1], count[2] = count[0] + 1, count[1] + row["ok"], count[2] + (row["ok"] or row["named"])
    lines = ["", "| Published by | Items translated | Named first | Named at all |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {tool} | {n} | {first} | {named} |" for tool, (n, first, named) in counted.items()])


def main() -> None:
    """Examine, print each miss and the tables; `--out` keeps the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--part", choices=[*PARTS, "rest", "healthy", "all", "development", "published", "setups"], default="all"
    )
    parser.add_argument("--names", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument(
        "--out", type=Path, help="a file of JSON lines to which rows are added; those there are left out"
    )
    parser.add_argument("--kept", type=Path, help="only print the tables of rows that a file of --out has")
    given = parser.parse_args()
    if given.kept:
        print(tables([json.loads(line) for line in given.kept.read_text().splitlines()]))
        return
    import striate.doctor.script.run_script  # noqa: F401 (read once, before the forks)

    wanted = {
        "rest": PARTS[1:],
        "all": (*PARTS, "healthy"),
        "development": ("development", "development-healthy"),
        "published": ("published", "published-healthy"),
        "setups": ("setups", "setups-healthy"),
    }.get(given.part, (given.part,))
    cases = scripts() | scripts(DEVELOPMENT) | scripts(PUBLISHED) | scripts(SETUPS)
    rows = []
    if given.out and given.out.exists():
        rows = [json.loads(line) for line in given.out.read_text().splitlines()]
    done = {row["name"] for row in rows}
    for name, case in cases.items():
        if (name not in given.names) if given.names else (case[0] not in wanted or name in done):
            continue
        row = judged(name, case, given.seconds)
        row["named"] = any(code in case[3] for _, code in row["found"])
        rows.append(row)
        mark = "ok    " if row["ok"] else "MISSED"
        print(mark, case[0], name, row["seconds"], row["verdict"], row["found"][:5], row["error"], flush=True)
        if given.out:
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    print(tables(rows))
    if given.part == "published":
        print(by_list(rows))


if __name__ == "__main__":
    main()
