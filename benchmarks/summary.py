"""Seconds and peak memory to account for a network: striate.summarize beside torchinfo and fvcore, in the same run.

Command: python benchmarks/summary.py [--repeats 5] [--inside 5] [--networks resnet18 …]
All get the same networks, the zoo's, and inputs of 3×224×224. Per repeat, peer and network a fresh process, the peers
in turn: it imports, goes once from the name to the numbers (`first`: building included; `peak` is the memory of the
process up to there), then `--inside` times again on the network that it has (`again`). A peer that is not installed is
left out, and said. Medians and ranges are printed and written to benchmarks/results/summary.json.

`striate` is given the name, as on the command line, each time anew; `striate, module` and the others a network with its
weights. `torchinfo, meta` is given one without memory for weights; fvcore's tracing does not take such a one.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

NETWORKS = ("resnet18", "resnet50", "resnet152", "vgg16")
PEERS = ("striate", "striate, module", "torchinfo", "torchinfo, meta", "fvcore")
SHAPE = (3, 224, 224)


def prepare(peer: str) -> Callable[[str, list[Any]], dict[str, int]]:
    """Import what the peer needs. The function that comes back accounts for a named network: it keeps the one that it
    built in the list, and returns parameters and multiply–accumulates."""
    import torch

    from striate.api import summarize
    from striate.models.build import build_model

    def built(name: str, kept: list[Any], device: str = "cpu") -> Any:
        if not kept:
            with torch.device(device):
                kept.append(build_model(name).eval())
        return kept[0]

    if peer == "fvcore":
        from fvcore.nn import FlopCountAnalysis, parameter_count

        def by_fvcore(name: str, kept: list[Any]) -> dict[str, int]:
            network = built(name, kept)
            found = FlopCountAnalysis(network, torch.zeros(1, *SHAPE)).unsupported_ops_warnings(False)
            by_operator = found.by_operator()
            return {"params": parameter_count(network)[""], "macs": by_operator["conv"] + by_operator["linear"]}

        return by_fvcore
    if peer.startswith("torchinfo"):
        import torchinfo

        device = "meta" if peer.endswith("meta") else "cpu"

        def by_torchinfo(name: str, kept: list[Any]) -> dict[str, int]:
            network = built(name, kept, device)
            x = torch.zeros(1, *SHAPE, device=device)
            found = torchinfo.summary(network, input_data=x, device=device, mode="eval", verbose=0)
            return {"params": found.total_params, "macs": found.total_mult_adds}

        return by_torchinfo

    def by_striate(name: str, kept: list[Any]) -> dict[str, int]:
        ledger = summarize(built(name, kept) if peer.endswith("module") else name, SHAPE)
        return {"params": ledger.params, "macs": ledger.macs}

    return by_striate


def one(peer: str, name: str, inside: int) -> dict[str, Any]:
    """What one fresh process measures."""
    began = perf_counter()
    account = prepare(peer)
    imported = perf_counter()
    kept: list[Any] = []
    counts = account(name, kept)
    first = perf_counter() - imported
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    again = []
    for _ in range(inside):
        started = perf_counter()
        account(name, kept)
        again.append(perf_counter() - started)
    return {"import": imported - began, "first": first, "peak_mib": peak, "again": again, **counts}


def in_a_fresh_process(peer: str, name: str, inside: int) -> dict[str, Any]:
    """The same in a process of its own."""
    words = [sys.executable, "-W", "ignore", __file__, "--one", peer, name, "--inside", str(inside)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(peer: str, name: str, measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, lowest and highest over the repeats."""
    values = {
        "import_seconds": [m["import"] for m in measured],
        "first_seconds": [m["first"] for m in measured],
        "again_seconds": [seconds for m in measured for seconds in m["again"]],
        "peak_mib": [m["peak_mib"] for m in measured],
    }
    spread = {key: [statistics.median(v), min(v), max(v)] for key, v in values.items() if v}
    return {"network": name, "peer": peer, "params": measured[0]["params"], "macs": measured[0]["macs"], **spread}


def show(found: dict[str, Any]) -> str:
    """One line: medians, with the range in brackets."""
    parts = [f"{found['network']:<10} {found['peer']:<16}"]
    for key, unit in (("first_seconds", "s"), ("again_seconds", "s"), ("peak_mib", "MiB")):
        if key in found:
            middle, low, high = found[key]
            digits = 0 if unit == "MiB" else 3
            parts.append(f"{middle:8.{digits}f} {unit} ({low:.{digits}f}–{high:.{digits}f})")
    return "  ".join([*parts, f"{found['macs']:,} MACs"])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--inside", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--one", nargs=2, metavar=("PEER", "NETWORK"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(*asked.one, asked.inside)))
        return
    missing = [name for name in ("torchinfo", "fvcore") if find_spec(name) is None]
    for name in missing:
        print(f"{name} is not installed and is left out; with it: make bench, or pip install -e '.[bench]'")
    peers = [peer for peer in PEERS if peer.partition(",")[0] not in missing]
    print(f"{'network':<10} {'peer':<16}  first, with building   again                 peak memory")
    rows = []
    for name in asked.networks:
        measured: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
        for _ in range(asked.repeats):
            for peer in peers:  # in turn, so that what else the machine does meets them all
                measured[peer].append(in_a_fresh_process(peer, name, asked.inside))
        rows += [row(peer, name, measured[peer]) for peer in peers]
        for found in rows[-len(peers) :]:
            print(show(found), flush=True)
    from striate.runs.environment import describe_environment

    file = Path(__file__).parent / "results" / "summary.json"
    here = {key: value for key, value in describe_environment().items() if key not in ("executable", "STRIATE_DATA")}
    versions = {name: version(name) for name in ("torchinfo", "fvcore") if name not in missing}
    about = {"environment": here, "peers": versions, "repeats": asked.repeats, "inside": asked.inside}
    file.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
