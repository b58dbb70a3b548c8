"""Ten networks from perceptron to ResNet-50: the plan's choice beside `--plan plain`.

Command: python benchmarks/plan_choice.py [--networks mnist-cnn resnet18 …] [--repeats 5]

Both train the same network on the same noise (images of ten classes; how fast a step is does not depend on what they
show) as `striate train` does; a turn is about as many samples as plain fp32 computes in two seconds. The plan measures
before the first turn, with a cache of its own: nothing is known from before. A pair is a turn of each, one right after
the other; the choice counts as slower where it lost all pairs. `ratio` is to plain: fp32, contiguous, uncompiled, the
system's allocator.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from typing import Any

from common.contender import Contender
from common.machine_rates import MATRIX_PRODUCTS, matrix_products  # noqa: F401 - contenders of this file
from common.measure import Measured, measure
from common.quick import quick_data
from common.results import arguments, case, claim, parsed, show, write_result
from common.striate_training import striate_contender, striate_training  # noqa: F401


@dataclass(frozen=True)
class Network:
    """A network, its input, the batch, and samples in a turn."""

    name: str
    shape: tuple[int, int, int]
    batch: int
    per_turn: int


NETWORKS = (
    Network("perceptron", (1, 28, 28), 128, 60_000),
    Network("mlp", (1, 28, 28), 128, 60_000),
    Network("lenet5", (1, 32, 32), 128, 24_000),
    Network("mnist-cnn", (1, 28, 28), 128, 30_000),
    Network("small-cnn", (1, 28, 28), 128, 24_000),
    Network("small-resnet", (3, 32, 32), 128, 1_280),
    Network("resnet20", (3, 32, 32), 128, 1_280),
    Network("resnet18(stem=small,width=32)", (3, 32, 32), 128, 640),
    Network("resnet18", (3, 160, 160), 32, 96),
    Network("resnet50", (3, 160, 160), 16, 48),
)


def contenders(network: Network, data: str, cache: str) -> list[Contender]:
    """Plan and plain, with the same settings."""
    fields = {"model.name": network.name, "batch": network.batch, "augment.flip": False, "augment.shift": 0}
    options = {"data": data, "epochs": 1000, "per_turn": network.per_turn}
    auto = striate_contender("the plan's choice", fields=fields | {"execution.plan": "auto"}, **options)
    plain = striate_contender("plain", fields=fields | {"execution.plan": "plain"}, **options)
    return [
        replace(auto, environment=auto.environment | {"STRIATE_CACHE": cache}),
        replace(plain, ours=False, environment=plain.environment | {"STRIATE_CACHE": cache}),
        MATRIX_PRODUCTS,
    ]


def pair_ratios(found: list[Measured]) -> list[float]:
    """The plan's speed over that of plain, turn by turn; none where either is lost."""
    auto, plain = found[0], found[1]
    if auto.lost is not None or plain.lost is not None:
        return []
    return [a / b for a, b in zip(auto.rates, plain.rates, strict=True)]


def measured(network: Network, asked: Any) -> dict[str, Any]:
    """The case of a network, with its pairs."""
    from striate.api import summarize

    batch = 16 if asked.quick else network.batch
    network = replace(network, batch=batch, per_turn=2 * batch if asked.quick else network.per_turn)
    samples = max(network.per_turn, 4 * network.batch)
    with quick_data(network.shape, samples=samples) as data, tempfile.TemporaryDirectory() as cache:
        found = measure(__file__, contenders(network, str(data), cache), repeats=asked.repeats, gently=asked.quick)
    ratios = pair_ratios(found)
    options = {"network": network.name, "shape": network.shape, "batch": network.batch, "pairs": ratios}
    made = case(network.name, found, macs=summarize(network.name, network.shape).macs, options=options)
    return made | {"note": _note(found[0], ratios)}


def _note(auto: Measured, ratios: list[float]) -> str:
    execution = auto.facts.get("execution", {})
    chosen = ", ".join(str(execution[key]) for key in ("precision", "memory_format") if execution.get(key))
    more = f", compile {execution['compile']}" if execution.get("compile") not in (None, "off") else ""
    threads = f", threads {execution['threads']}" if execution.get("threads") else ""
    pairs = ", ".join(f"{ratio:.2f}" for ratio in ratios) or "none"
    return f"Chosen: {chosen or 'nothing'}{more}{threads}. Pairs: {pairs}."


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=5)
    names = [network.name for network in NETWORKS]
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    asked = parsed(parser)
    wanted = asked.networks[:2] if asked.quick else asked.networks
    cases = []
    for network in NETWORKS:
        if network.name in wanted:
            cases.append(measured(network, asked))
            print(show(cases[-1]) + f"\n  {cases[-1]['note']}", flush=True)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2], claims=judge(cases))


def judge(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """How many networks the choice is slower on: where it lost all pairs. Not judged where a network is missing."""
    pairs = {found["name"]: found["options"]["pairs"] for found in cases}
    slower = [name for name, ratios in pairs.items() if ratios and max(ratios) < 1]
    text = f"slower on {len(slower)} of {len(pairs)}" + (f": {', '.join(slower)}" if slower else "")
    whole = len(pairs) == len(NETWORKS) and all(pairs.values())
    return {"plan-choice": claim(text, not slower if whole or slower else None)}


if __name__ == "__main__":
    main()
