"""Answers of ResNet-50: striate with torch alone and with OpenVINO, beside plain torch in fp32.

Command: STRIATE_DATA=… python benchmarks/resnet50_inference.py [--batch 32] [--repeats 5] [--data fashion-mnist]

A turn is six batches of 32 images of 224 × 224, which lie in memory as fp32. Plain torch is the network in eval mode
without gradients, as everyone writes it: fp32, contiguous, glibc's own allocator. striate computes a copy in each of
the ways that its inference plan tries, in the settings of the program (freed memory is kept). Weights are the initial
ones: the time does not depend on them. How many answers stay those of fp32 does, so it is counted for a ResNet-18 of
width 16 that is trained here, on all test images of a data set, resized to 56 × 56.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.machine_rates import MATRIX_PRODUCTS, matrix_products  # noqa: F401 - a contender of this file
from common.measure import measure
from common.quick import quick_data
from common.results import arguments, case, claim, parsed, show, write_result

MODEL, BATCHES = "resnet50", 6
TRAINED, SIZE, EPOCHS = "resnet18(width=16)", 56, 4
TARGETS = {"torch": 4.5, "openvino": 6.0}
LEAST_EQUAL = 0.995


def ways() -> dict[str, dict[str, Any]]:
    """The ways of striate's plan, by their names."""
    from striate.inference.plan import Backend

    found = (
        Backend("torch", "fp32", "channels_last", fused=True),
        Backend("torch", "bf16", "channels_last", fused=True),
        Backend("openvino", "fp32"),
        Backend("openvino", "bf16"),
    )
    return {way.name: {"engine": way.engine, "precision": way.precision} for way in found}


def plain_torch(gate: Gate, batch: int, size: int, batches: int) -> None:
    """The network as it is, in eval mode and without gradients."""
    import torch

    from striate.models.build import build_model

    torch.manual_seed(0)
    module, x = build_model(MODEL).eval(), torch.randn(batch, 3, size, size)
    with torch.inference_mode():
        while True:
            gate.begin()
            for _ in range(batches):
                module(x)
            gate.end(batch * batches)


def striate_way(gate: Gate, engine: str, precision: str, batch: int, size: int, batches: int) -> None:
    """The network as striate prepares it for this way."""
    import torch

    from striate.inference.choose import prepare_backend
    from striate.inference.plan import Backend
    from striate.machine.allocator import keep_freed_memory
    from striate.machine.waiting import share_the_cores
    from striate.models.build import build_model

    if engine == "openvino" and importlib.util.find_spec("openvino") is None:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")  # named as missing
    keep_freed_memory()
    share_the_cores()
    torch.manual_seed(0)
    module, x = build_model(MODEL).eval(), torch.randn(batch, 3, size, size)
    torch_layout = {"memory_format": "channels_last", "fused": True} if engine == "torch" else {}
    with torch.inference_mode():
        network = prepare_backend(Backend(engine, precision, **torch_layout), module, x)  # type: ignore[arg-type]
        gate.say(precision=precision, engine=engine)
        while True:
            gate.begin()
            for _ in range(batches):
                network(x)
            gate.end(batch * batches)


def contenders(batch: int, size: int, batches: int) -> list[Contender]:
    """Plain torch, and all ways."""
    options = {"batch": batch, "size": size, "batches": batches}
    ours = [Contender(f"striate: {name}", "striate_way", options | way, ours=True) for name, way in ways().items()]
    return [Contender("torch, fp32", "plain_torch", options), *ours, MATRIX_PRODUCTS]


def equal_answers(data: str, epochs: int, size: int) -> dict[str, dict[str, Any]]:
    """For each way: how many answers of a network that was trained on `data` are those of plain fp32, on all test
    images."""
    import torch

    import striate
    from striate.inference.agreement import compare_predictions
    from striate.inference.choose import prepare_backend
    from striate.inference.plan import Backend
    from striate.training.config_file import config_from_yaml
    from striate.training.prepare import read_data

    with tempfile.TemporaryDirectory() as folder:
        run = striate.train(data, TRAINED, epochs=epochs, size=size, out=Path(folder) / "run")
        trained = striate.load(run.path)
        test = read_data(config_from_yaml(run.path / "config.yaml"))[1].splits["test"]
    normalize = trained.normalization.on("cpu", 4)
    parts = [normalize(test.inputs[start : start + 128]) for start in range(0, len(test), 128)]
    found = {}
    with torch.inference_mode():
        reference = torch.cat([trained.module(part) for part in parts])
        accuracy = float((reference.argmax(1) == test.targets).float().mean())
        for name, way in ways().items():
            layout = {"memory_format": "channels_last", "fused": True} if way["engine"] == "torch" else {}
            try:
                network = prepare_backend(Backend(**way, **layout), trained.module, parts[0])
            except ImportError:
                continue
            agreement = compare_predictions(trained.task, reference, torch.cat([network(part) for part in parts]))
            found[name] = {"samples": agreement.samples, "equal": agreement.equal, "moved": agreement.moved}
            print(
                f"  {name:<36}{100 * (agreement.equal or 0):.2f} % of {agreement.samples:,} answers equal", flush=True
            )
    return {"network": {"model": TRAINED, "data": data, "size": size, "epochs": epochs, "accuracy": accuracy}, **found}


def judge(found: dict[str, Any], equal: dict[str, Any]) -> dict[str, Any]:
    """Times as fast as plain torch, by engine, and the least share of equal answers."""
    verdicts = {}
    for engine, target in TARGETS.items():
        ratios = [r["ratio"] for r in found["rows"] if r["ours"] and r["facts"]["engine"] == engine and r["ratio"]]
        if ratios:
            verdicts[f"inference-{engine}"] = claim(f"{max(ratios):.2f}× plain torch in fp32", max(ratios) >= target)
    shares = [values["equal"] for name, values in equal.items() if name != "network"]
    if shares:
        count = next(values["samples"] for name, values in equal.items() if name != "network")
        equal_share = f"{100 * min(shares):.2f} % of {count:,} predictions of {TRAINED}"
        said = f"{equal_share} are those of fp32, in the worst execution mode"
        verdicts["inference-equal"] = claim(said, min(shares) >= LEAST_EQUAL)
    return verdicts


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--data", default="fashion-mnist", help="what the network of the comparison is trained on")
    asked = parsed(parser)
    size, batches = (64, 1) if asked.quick else (224, BATCHES)
    batch = 4 if asked.quick else asked.batch
    from striate.api import summarize

    macs = summarize(MODEL, (3, size, size)).macs
    measured = measure(__file__, contenders(batch, size, batches), repeats=asked.repeats, gently=asked.quick)
    options = {"batch": batch, "size": size}
    found = case(f"ResNet-50, {size} × {size}, batch {batch}", measured, macs=macs, training=False, options=options)
    print(show(found), flush=True)
    with quick_data((3, 32, 32), asked.quick) as few:
        equal = equal_answers(few or asked.data, 1 if asked.quick else EPOCHS, 32 if asked.quick else SIZE)
    found["equal_answers"] = equal
    write_result(__file__, asked, [found], about=__doc__.split("\n\n")[2], claims=judge(found, equal))


if __name__ == "__main__":
    main()
