"""How many planted faults the doctor names, and how often it cries wolf: all cases of the tests, over seeds.

Command: python benchmarks/doctor.py [--seeds 3] [--codes data.leak …] [--only faults|healthy]

Each case of tests/doctor/planted is built anew for each seed: other samples, weights and orders. A fault is named
where its code (or one that the case lists as right too) is the first or second finding. Of the healthy setups every
error and warning is listed. Writes benchmarks/results/doctor.json and the tables of docs/measurements/doctor.md.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from textwrap import fill
from time import perf_counter
from typing import Any

import torch
from rich.console import Console

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "doctor"), str(ROOT / "tests")]

from planted.every import FAULTS, HEALTHY, is_named  # noqa: E402

import striate  # noqa: E402
from striate.api import train_config  # noqa: E402
from striate.api.diagnosing import pre_checked  # noqa: E402
from striate.doctor.checks.every import every_check  # noqa: E402
from striate.errors import DataError  # noqa: E402
from striate.training.prepare import prepare  # noqa: E402
from striate.training.request import merge_request, read_config  # noqa: E402

PAGE = ROOT / "docs" / "measurements" / "doctor.md"
RESULT = ROOT / "benchmarks" / "results" / "doctor.json"
FIRST_LOOKS = (
    ("mnist5k", (), 20),
    ("fashion-mnist", (("model.name", "mnist-cnn"),), 10),
    ("cifar10", (("model.name", "resnet18(stem='small',width=16)"),), 2),
)
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--codes", nargs="+", help="these codes alone; writes nothing")
    parser.add_argument("--only", choices=["faults", "healthy"], help="one half; writes nothing")
    return parser.parse_args()


def diagnosed(case: Any) -> tuple[Any, float]:
    """The diagnosis and its seconds."""
    began = perf_counter()
    found = striate.diagnose(case.model, case.train, case.val, **case.options)
    return found, perf_counter() - began


def run_faults(seeds: int, codes: list[str] | None) -> list[dict[str, Any]]:
    """A row for each fault and seed."""
    rows = []
    for fault in FAULTS:
        for seed in range(seeds) if codes is None or fault.code in codes else ():
            found, seconds = diagnosed(fault.build(seed))
            codes_found = [f.code for f in found.findings]
            named = is_named(found, fault.code, fault.also)
            rows.append(
                {"code": fault.code, "name": fault.name, "seed": seed, "named": named, "seconds": round(seconds, 3)}
                | {"found": codes_found}
            )
            if not named:
                print(f"missed  {fault.code:<30}{fault.name} seed {seed}: {codes_found[:4]}", flush=True)
    return rows


def run_healthy(seeds: int) -> list[dict[str, Any]]:
    """A row for each healthy setup and seed, with its errors and warnings."""
    rows = []
    for healthy in HEALTHY:
        for seed in range(seeds):
            found, seconds = diagnosed(healthy.build(seed))
            wrong = [(f.severity, f.code) for f in found.findings if f.severity != "note"]
            rows.append({"name": healthy.name, "seed": seed, "wrong": wrong, "seconds": round(seconds, 3)})
            for severity, code in wrong:
                print(f"{severity:<8}{code:<30}{healthy.name} seed {seed}", flush=True)
    return rows


def first_looks() -> list[dict[str, Any]]:
    """What the look before a training costs: its seconds, and those of the training that follows."""
    rows = []
    for data, fields, epochs in FIRST_LOOKS:
        config = merge_request(read_config(None), data=data, epochs=epochs, fields=dict(fields))
        try:
            prepared = prepare(config)
        except DataError as error:
            print(f"{data}: {error.got}")
            continue
        began = perf_counter()
        looked = pre_checked(prepared)
        seconds = perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            trained = train_config(config, out=out, console=Console(file=io.StringIO()), quiet=True).metrics
        said = len(looked.findings) - len(prepared.findings)
        rows.append(
            {"data": data, "model": prepared.config.model.name, "epochs": epochs, "seconds": round(seconds, 3)}
            | {"train_seconds": round(trained["train_seconds"], 2), "errors": said}
        )
        print(rows[-1], flush=True)
    return rows


def tables(faults: list[dict[str, Any]], healthy: list[dict[str, Any]], looks: list[dict[str, Any]], seeds: int) -> str:
    """The Markdown of docs/measurements/doctor.md between its marks."""
    by_code: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in faults:
        by_code[row["code"]].append(row)
    false = Counter((severity, code) for row in healthy for severity, code in row["wrong"])
    seconds = [row["seconds"] for row in (*faults, *healthy)]
    named = sum(row["named"] for row in faults)
    alarmed = sum(any(severity == "error" for severity, _ in row["wrong"]) for row in healthy)
    warned = sum(bool(row["wrong"]) for row in healthy)
    lines = [
        f"Named first or second: **{named} of {len(faults)}** planted faults ({100 * named / len(faults):.1f} %): "
        f"{len(FAULTS)} cases, {seeds} seeds each. Of {len(healthy)} healthy setups ({len(HEALTHY)}, {seeds} seeds "
        f"each), **{alarmed} had an error and {warned} a warning or error**. A diagnosis took "
        f"{statistics.median(seconds):.2f} s in the middle and {max(seconds):.1f} s at most.",
        "",
    ]
    counts = {code: (sum(row["named"] for row in rows), len(rows)) for code, rows in sorted(by_code.items())}
    alarms = {code for _, code in false}
    doubtful = sorted({code for code, (named, count) in counts.items() if named < count} | alarms)
    if doubtful:
        lines += ["| Code | Named, of cases × seeds | Errors, warnings in healthy setups |", "|---|---|---|"]
        for code in doubtful:
            right, count = counts.get(code, (0, 0))
            lines.append(f"| `{code}` | {right} of {count} | {false['error', code]}, {false['warning', code]} |")
        lines.append("")
    always = ", ".join(f"`{code}` ({count})" for code, (_, count) in counts.items() if code not in doubtful)
    lines.append(fill(f"Always named, and never in a healthy setup (in brackets: cases × seeds): {always}.", 120))
    codes = sorted(dict.fromkeys(code for check in every_check() for code in check.codes))
    if others := ", ".join(f"`{code}`" for code in codes if code not in counts):
        lines += ["", fill(f"Tested one by one, without a planted case: {others}.", 120)]
    lines += ["", "What the look before a training costs:", "", "| Training | Look | Training itself | Share |"]
    lines += ["|---|---|---|---|"]
    for look in looks:
        share = look["seconds"] / look["train_seconds"]
        name = f"{look['model']} on {look['data']}, {look['epochs']} epochs"
        lines.append(f"| {name} | {look['seconds']:.2f} s | {look['train_seconds']:.1f} s | {100 * share:.1f} % |")
    return "\n".join(lines)


def main() -> None:
    """Run all, print what was missed or taken wrongly, write the figures."""
    given = asked()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    faults = [] if given.only == "healthy" else run_faults(given.seeds, given.codes)
    healthy = [] if given.only == "faults" or given.codes else run_healthy(given.seeds)
    print(f"named {sum(row['named'] for row in faults)} of {len(faults)}")
    print(f"healthy with errors or warnings: {sum(bool(row['wrong']) for row in healthy)} of {len(healthy)}")
    if given.only or given.codes:
        return
    looks = first_looks()
    result = {"seeds": given.seeds, "faults": faults, "healthy": healthy, "first_looks": looks}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{tables(faults, healthy, looks, given.seeds)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
