"""Fuzz the readers of foreign bytes with atheris (coverage-guided, https://github.com/google/atheris).

    pip install atheris
    python tests/fuzz/run_atheris.py [TARGET…] --minutes 10

Each target runs in a process of its own, from its seeds and from what once broke (corpus/). It ends with a line of how
many inputs were tried and what was found; an input that breaks a target is written to corpus/TARGET, where the tests
replay it. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"


def fuzz(name: str, arguments: list[str]) -> None:
    """One target, in this process, until libFuzzer ends it."""
    import atheris

    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["striate", "csv", "pickle", "tarfile", "zipfile", "yaml"]):
        import targets
    warnings.simplefilter("ignore")
    atheris.Setup([sys.argv[0], *arguments], lambda data: targets.attempt(name, data))
    atheris.Fuzz()


def run(name: str, minutes: float) -> bool:
    """One target in a process of its own; True where nothing was found."""
    sys.path.insert(0, str(HERE))
    import targets

    found = CORPUS / name
    found.mkdir(parents=True, exist_ok=True)
    known = set(found.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(targets.TARGETS[name][1]):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        options = [f"-max_total_time={60 * minutes:.0f}", "-max_len=20000", "-timeout=20", "-rss_limit_mb=3000"]
        options += ["-print_final_stats=1", f"-artifact_prefix={found}/", folder, str(found)]
        command = [sys.executable, __file__, "--only", name, *options]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    tried = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    count = int(tried[1]) if tried else 0
    # libFuzzer writes what it finds.
    clean = count > 0 and done.returncode == 0 and not set(found.iterdir()) - known
    said = "nothing found" if clean else "FOUND:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-40:])
    print(f"{name}: {count:,} inputs in {minutes:g} minutes, {covered[-1] if covered else 0} edges, {said}", flush=True)
    return clean


def main() -> int:
    """The targets that are named, or all."""
    if sys.argv[1:2] == ["--only"]:
        fuzz(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--minutes", type=float, default=10)
    chosen = parser.parse_args()
    sys.path.insert(0, str(HERE))
    import targets

    names = chosen.targets or list(targets.TARGETS)
    clean = [run(name, chosen.minutes) for name in names]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
