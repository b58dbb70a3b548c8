"""Results of a workload: rows of contenders, the machine, versions and the command, as one JSON file."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.machine_rates import best_rates, utilisation
from common.measure import MIB, Measured, spread

RESULTS = Path(__file__).parent.parent / "results"
PEERS = ("torch", "keras", "jax", "jaxlib", "skorch", "lightning", "fastai", "openvino", "onnxruntime", "pillow")
PRIVATE = ("executable", "STRIATE_DATA")


def arguments(description: str | None, *, repeats: int) -> argparse.ArgumentParser:
    """The options that all workloads have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help="turns of each contender after the warm-up")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs; goes to results/quick/")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked; quick means one repeat."""
    asked = parser.parse_args()
    asked.repeats = 1 if asked.quick else asked.repeats
    return asked


def case(
    name: str,
    measured: Sequence[Measured],
    *,
    macs: int | dict[str, int] | None = None,
    training: bool = True,
    in_order: bool = False,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One table: a row a contender, the fastest first (or `in_order`); contenders that are not there are `missing`.
    Among `measured` may be the matrix products, which `macs` (multiply–accumulates of a forward pass of one sample, for
    all or by the contenders' names) is held against."""
    reference = next((one for one in measured if one.contender.function == "matrix_products" and one.turns), None)
    rates = best_rates(reference) if reference else []
    taken = [one for one in measured if one.contender.function != "matrix_products"]
    macs_of = macs if isinstance(macs, dict) else {one.contender.name: macs for one in taken}
    here = [one for one in taken if one.turns and one.lost is None]
    rows = [row(one, rates, macs_of[one.contender.name], training) for one in here]
    if not in_order:
        rows.sort(key=lambda r: -r["images_per_second"]["median"])
    best = max((r["images_per_second"]["median"] for r in rows if not r["ours"]), default=None)
    for found in rows:
        found["ratio"] = found["images_per_second"]["median"] / best if best else None
    lost = [{"contender": one.contender.name, "reason": one.lost} for one in taken if one.lost is not None]
    return {
        "name": name,
        "options": options or {},
        "macs": macs,
        "training": training,
        "rates": rates,
        "rows": rows,
        "missing": lost,
    }


def row(one: Measured, rates: list[dict[str, Any]], macs: int | None, training: bool) -> dict[str, Any]:
    """The figures of one contender; `ratio` is to the best peer of the case."""
    speed, precision = spread(one.rates), one.facts.get("precision", "fp32")
    used = utilisation(speed["median"], macs, precision, rates, training=training) if macs else None
    return {
        "contender": one.contender.name,
        "ours": one.contender.ours,
        "precision": precision,
        "images_per_second": speed,
        "ratio": None,
        "utilisation": used,
        "peak_mib": round(one.peak_bytes / MIB, 1),
        "facts": one.facts,
        "turns": one.turns,
    }


def best_ratio(cases: Sequence[dict[str, Any]]) -> float | None:
    """Ours over the best peer in the case where it is worst; None where either is missing."""
    ratios = [
        max((r["ratio"] for r in found["rows"] if r["ours"] and r["ratio"] is not None), default=None)
        for found in cases
    ]
    return None if not ratios or None in ratios else min(r for r in ratios if r is not None)


def claim(measured: str, met: bool | None) -> dict[str, Any]:
    """A measured figure beside what was asked for; `met` is None where it cannot be judged."""
    return {"measured": measured, "met": met}


def write_result(
    file: str | Path,
    asked: argparse.Namespace,
    cases: Sequence[dict[str, Any]],
    *,
    about: str,
    claims: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Write the result of the workload `file` to `asked.out`, or to results/NAME.json (results/quick/ if quick).

    `about`: what is measured, in a paragraph. `claims`: by their keys in write_performance.py.
    """
    name = Path(file).stem
    out = asked.out or (RESULTS / "quick" if asked.quick else RESULTS) / f"{name}.json"
    result = {
        "workload": name,
        "about": " ".join(about.split()),
        "command": _command(name, sys.argv[1:]),
        "quick": bool(asked.quick),
        "repeats": asked.repeats,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "environment": environment(),
        "versions": {peer: found for peer in PEERS if (found := _version(peer))},
        "cases": list(cases),
        "claims": claims or {},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(out)


def _command(name: str, words: Sequence[str]) -> str:
    """As it is repeated: without the file that was written, which is a path of this machine."""
    told = list(words)
    if "--out" in told:
        place = told.index("--out")
        del told[place : place + 2]
    return shlex.join(["python", f"benchmarks/{name}.py", *told])


def environment() -> dict[str, Any]:
    """Machine and versions, without paths of this machine."""
    from striate.runs.environment import describe_environment

    return {key: value for key, value in describe_environment().items() if key not in PRIVATE}


def show(found: dict[str, Any]) -> str:
    """A case as text: a line a contender."""
    lines = [f"{found['name']}"]
    for one in found["rows"]:
        speed = one["images_per_second"]
        used = "" if one["utilisation"] is None else f"{100 * one['utilisation']:5.1f} % of {one['precision']}"
        ratio = "" if one["ratio"] is None else f"{one['ratio']:5.2f}×"
        digits = 0 if speed["median"] >= 100 else 1
        lines.append(
            f"  {one['contender']:<44}{speed['median']:>9,.{digits}f} images/s"
            f"  ({speed['min']:,.{digits}f}–{speed['max']:,.{digits}f})  {ratio:<7}{one['peak_mib']:>7,.0f} MiB  {used}"
        )
    return "\n".join([*lines, *(f"  {lost['contender']:<44}missing: {lost['reason']}" for lost in found["missing"])])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that was measured, with `+` where files were changed since."""
    folder = Path(__file__).parent
    try:
        words = ["git", "describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=10"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
