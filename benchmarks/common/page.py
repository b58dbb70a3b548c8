"""docs/performance.md, a page of what was tried, and one of measurements a workload: all figures are from results."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.targets import TARGETS, TRIED
from striate.wording import several

Result = dict[str, Any]
TRAININGS = ("fashion_epoch", "cifar_resnet18", "photos")
"""Those whose steps must not wait for data; others also try what is known to wait."""
VERDICTS = {True: "met", False: "**not met**", None: "not judged"}
WAITED_FOR = (
    "whole_command",
    "fashion_epoch",
    "cifar_resnet18",
    "photos",
    "photo_loading",
    "resnet50_inference",
    "gpu",
)
"""What a person waits for; the other workloads explain it."""
HEAD = """# Performance

What you wait for, with striate and with the fastest other way that was measured beside it, on the same machine in the
same run. Each line leads to its measurements: all contenders, medians and ranges over the
repeats, memory, versions, the command to repeat them."""
TRIED_HEAD = "# What is not met, and what is slower"
TRIED_LINK = "What was tried for what is not met, and where a peer is faster: [here](measurements/tried.md)."
WRITTEN = """Written by `python benchmarks/write_performance.py` from `benchmarks/results/*.json`. `make bench` measures
and writes it anew, `make bench BENCH=fashion_epoch` one workload, `make bench-long` those that train for long."""
CONVENTIONS = """## How to read the tables

Each contender runs in a process of its own and sleeps between its turns; a repeat lets every contender work once, in an
order that is reversed each time. Before a turn nobody works for a second and a half: programs that give way to others
would take the contender before for one. Figures are medians over the repeats, the lowest and highest in brackets;
`ratio` is to the best peer. Memory is the most that a process occupied (its high-water mark, with its own loading of
libraries; where it has helpers, of all together while it warmed up). `used` is achieved FLOP/s over the best
matrix-product rate of the same precision, measured in the same run: 2 FLOPs a multiply–accumulate of convolutions and
matrix products, three times the forward pass for training (also for the first layer, whose inputs need no gradient),
and nothing for all else. A peer that could not take part is named with its reason."""


def page(
    results: Sequence[Result], expected: Iterable[str], elsewhere: Mapping[str, Sequence[Result]] | None = None
) -> str:
    """The first page. `expected`: workloads that `make bench` knows; `elsewhere`: results of other machines, by what
    these are named after."""
    missing = [name for name in expected if name not in {r["workload"] for r in results}]
    parts = [
        HEAD,
        _quick_warning(results),
        _waited_for(results),
        _verdicts(results),
        *(_elsewhere(place, others) for place, others in (elsewhere or {}).items()),
        _machine(results),
        _all_measurements(results, missing),
        WRITTEN,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def tried_page(results: Sequence[Result]) -> str:
    """What is slower than a peer, and what was tried for what is not met."""
    back = "[Targets and measurements](../performance.md)"
    return "\n\n".join(part for part in [TRIED_HEAD, _tried(results), _slower(results), back] if part) + "\n"


def workload_page(result: Result, plot: str | None, elsewhere: Mapping[str, Result] | None = None) -> str:
    """The measurements of a workload. `plot`: its picture; `elsewhere`: the same of other machines."""
    back = "[Targets and measurements](../performance.md)"
    parts = [
        _workload(result, plot),
        *(_of_other_machine(*other) for other in (elsewhere or {}).items()),
        CONVENTIONS,
        back,
    ]
    return "\n\n".join(parts) + "\n"


def title(workload: str) -> str:
    """For readers."""
    return workload.replace("_", " ")


def _link(workload: str) -> str:
    return f"[{title(workload)}](measurements/{workload}.md)"


def _waited_for(results: Sequence[Result]) -> str:
    """Ours beside the best peer of each case; of several of ours, the fastest."""
    found, rows = {result["workload"]: result for result in results}, list[list[str]]()
    for name in (name for name in WAITED_FOR if name in found):
        for case in found[name]["cases"]:
            ours = [row for row in case["rows"] if row["ours"] and row.get("ratio") is not None]
            peers = [row for row in case["rows"] if not row["ours"] and row.get("ratio") is not None]
            if ours and peers:
                best, peer = (max(of, key=lambda row: row["ratio"]) for of in (ours, peers))
                told = f"{peer['contender']}: {_speed(peer)}"
                rows.append([_link(name), case["name"], _speed(best), told, f"**{best['ratio']:.2f}×**"])
    return table(["what", "", "striate", "the fastest other way", "times as fast"], rows) if rows else ""


def _on(place: str) -> str:
    return f"## On a machine {title(place)}"


def _elsewhere(place: str, others: Sequence[Result]) -> str:
    """The same on another machine, which is slower or faster in other things."""
    if not others:
        return ""
    claims = {key: made for one in others for key, made in one["claims"].items() if key in TARGETS}
    rows = [[TARGETS[key], claims[key]["measured"], VERDICTS[claims[key]["met"]]] for key in TARGETS if key in claims]
    parts = [
        f"{_on(place)}\n\n{_machine_line(others[0]['environment'])}. {_rates_line(others)}".rstrip(),
        _waited_for(others),
        table(["target", "measured", "verdict"], rows) if rows else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _of_other_machine(place: str, result: Result) -> str:
    """The measurements of a workload there, under one title."""
    told = f"{_machine_line(result['environment'])}. {_rates_line([result])}".rstrip()
    cases = (_case(case).replace("## ", "### ", 1) for case in result["cases"])
    return "\n\n".join([_on(place), f"{told}\n\n{_how(result)}", *cases])


def _rates_line(results: Sequence[Result]) -> str:
    """How fast matrix products are at best, by precision."""
    best: dict[str, float] = {}
    for rate in (rate for result in results for case in result["cases"] for rate in case.get("rates", ())):
        best[rate["precision"]] = max(rate["best"], best.get(rate["precision"], 0.0))
    told = ", ".join(f"{precision} {number(rate)}" for precision, rate in best.items())
    return f"Matrix products in GFLOP/s at best: {told}." if told else ""


def _speed(row: dict[str, Any]) -> str:
    speed = row.get("images_per_second")
    return f"{number(speed['median'])} images/s" if speed else f"{number(row['seconds']['mean'])} s"


def _all_measurements(results: Sequence[Result], missing: Sequence[str]) -> str:
    lines = [f"- {_link(result['workload'])}" for result in results]
    return "\n".join(["## All measurements", "", *lines, *(f"- {title(name)}: not measured" for name in missing)])


def number(value: float) -> str:
    """Three digits or whole numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; of columns that are empty throughout nothing is shown."""
    kept = [k for k in range(len(columns)) if any(row[k] for row in rows)]
    lines = [[columns[k] for k in kept], ["---"] * len(kept), *([row[k] for k in kept] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _quick_warning(results: Sequence[Result]) -> str:
    quick = [r["workload"] for r in results if r["quick"]]
    return f"**Of no worth as figures, since they were quick tries: {', '.join(quick)}.**" if quick else ""


def _slower(results: Sequence[Result]) -> str:
    """Ours below a peer, the worst first."""
    found = [
        (row["ratio"], f"{row['contender']}: {result['workload']}, {case['name']}: {row['ratio']:.2f}× the best peer")
        for result in results
        for case in result["cases"]
        for row in case["rows"]
        if row["ours"] and row.get("ratio") is not None and row["ratio"] < 1
    ]
    if not any(row.get("ratio") is not None for r in results for c in r["cases"] for row in c["rows"]):
        return ""
    told = "\n".join(f"- {text}" for _, text in sorted(found)) or "Nothing of what was measured."
    return f"## Slower than a peer\n\n{told}"


def _verdicts(results: Sequence[Result]) -> str:
    claims, rows = _claims(results), []
    for key in (*TARGETS, *(k for k in claims if k not in TARGETS)):
        made, workload = claims.get(key, (None, ""))
        if made is None:
            rows.append([TARGETS[key], "not measured", "–", ""])
        else:
            rows.append([TARGETS.get(key, key), made["measured"], VERDICTS[made["met"]], _link(workload)])
    told = "## Targets and measurements\n\n" + table(["target", "measured", "verdict", "workload"], rows)
    return f"{told}\n\n{TRIED_LINK}" if _tried(results) else told


def _claims(results: Sequence[Result]) -> dict[str, tuple[dict[str, Any], str]]:
    """What each workload says of the targets, and its name."""
    claims = {key: (made, result["workload"]) for result in results for key, made in result["claims"].items()}
    return claims | _waits(results)


def _tried(results: Sequence[Result]) -> str:
    missed = [key for key, (made, _) in _claims(results).items() if made["met"] is False and key in TRIED]
    tried = "\n".join(f"- {TARGETS[key]}. {TRIED[key]}" for key in TRIED if key in missed)
    return f"## What was tried for what is not met\n\n{tried}" if tried else ""


def _waits(results: Sequence[Result]) -> dict[str, tuple[dict[str, Any], str]]:
    """The largest share of a turn, by the median of the turns, in which a training of ours waited for data."""
    found = []
    for result in (r for r in results if r["workload"] in TRAININGS):
        for row in (row for case in result["cases"] for row in case["rows"] if row["ours"]):
            waits = [turn["data_wait"] for turn in row.get("turns", ()) if turn.get("data_wait") is not None]
            if waits:
                found.append((statistics.median(waits), result["workload"]))
    if not found:
        return {}
    worst, workload = max(found)
    return {"loader-waits": ({"measured": f"{100 * worst:.1f} % at most", "met": worst < 0.05}, workload)}


def _machine(results: Sequence[Result]) -> str:
    """The machines that the results are of; versions that differ are told with the workload."""
    if not results:
        return ""
    machines = {_machine_line(r["environment"]): None for r in results}
    lines = [f"- {line}" for line in machines]
    rates: dict[tuple[str, str, str], tuple[float, str]] = {}
    for result in results:
        for case in result["cases"]:
            for rate in case.get("rates", ()):
                key = rate["precision"], rate["how"], rate["unit"]
                if rate["best"] > rates.get(key, (0.0, ""))[0]:
                    rates[key] = rate["best"], result["workload"]
    if rates:
        rows = [[p, how, f"{number(best)} {unit}", f"`{name}`"] for (p, how, unit), (best, name) in rates.items()]
        lines += ["", "Best matrix-product rates seen in any of the runs:", ""]
        lines.append(table(["precision", "library", "rate", "seen in"], rows))
    return "## Machine\n\n" + "\n".join(lines)


def _machine_line(environment: dict[str, Any]) -> str:
    threads = f"{environment['cores']} cores, {environment['cpu_capability']}"
    gpus = ", ".join(environment["gpus"]) or "no GPU"
    where = f"{environment['memory_gib']} GiB, {gpus}, {environment['platform']}"
    return f"{environment['processor']}, {threads}, {where}, Python {environment['python']}"


def _workload(result: Result, plot: str | None) -> str:
    about = [f"# {title(result['workload'])}", result["about"], _how(result)]
    pictures = [f"![{title(result['workload'])}]({plot})"] if plot else []
    return "\n\n".join([*about, *pictures, *(_case(case) for case in result["cases"])])


def _how(result: Result) -> str:
    """The command, when it was run, and of which versions."""
    versions = ", ".join(f"{name} {found}" for name, found in result["versions"].items())
    load = "" if result["load"] is None else f"; load of the machine when it ended {result['load'][0]:.2f}"
    return (
        f"`{result['command']}`, {several(result['repeats'], 'repeat')}, ended {result['finished']},"
        f" commit {result['commit']}{load}. striate {result['environment']['striate']}; {versions}."
    )


def _case(case: dict[str, Any]) -> str:
    columns = ["", "images/s", "ratio", "used", "of", "memory", "accuracy", "seconds", "epochs"]
    parts = [f"## {case['name']}", table(columns, [_row(row) for row in case["rows"]]) if case["rows"] else ""]
    if case.get("note"):
        parts.append(case["note"])
    parts += [f"Missing: {lost['contender']} ({lost['reason']})." for lost in case["missing"]]
    return "\n\n".join(part for part in parts if part)


def _row(row: dict[str, Any]) -> list[str]:
    speed, used, ratio = row.get("images_per_second"), row.get("utilisation"), row.get("ratio")
    said = f"{number(speed['median'])} ({number(speed['min'])}–{number(speed['max'])})" if speed else ""
    name = f"**{row['contender']}**" if row["ours"] else row["contender"]
    return [
        name,
        said,
        "" if ratio is None else f"{ratio:.2f}",
        "" if used is None else f"{100 * used:.0f} %",
        "" if used is None else row["precision"],
        f"{row['peak_mib']:,.0f} MiB" if row.get("peak_mib") else "",
        _mean(row.get("accuracy"), 100, " %", 2),
        _mean(row.get("seconds"), 1, " s", 0),
        _mean(row.get("epochs"), 1, "", 1),
    ]


def _mean(figures: dict[str, float] | None, scale: float, unit: str, digits: int) -> str:
    if figures is None:
        return ""
    return f"{scale * figures['mean']:,.{digits}f} ± {scale * figures['std']:,.{digits}f}{unit}"
