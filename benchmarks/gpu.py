"""Training on a GPU: striate beside plain torch, reading photographs with many cores, and CIFAR-10 by the clock.

Command: STRIATE_DATA=… python benchmarks/gpu.py [--part resnet18 resnet50 reading cifar10] [--repeats 3]

ResNet-18 of CIFAR in batches of 512 and ResNet-50 at 224 pixels in batches of 256, in a run so long that the plan may
try all it has; a turn is 100 and 20 steps, with augmentation (shifted by up to 4 and 16 pixels, flipped by chance).
Peers keep all images as bytes on the GPU and shift and flip whole batches there, SGD is fused: plain fp32, bf16 with
channels_last, and the same compiled. Reading: photographs of flowers, repeated, to 160 × 160, beside a DataLoader with
a worker a core, and beside decoding alone, nothing else done. CIFAR-10: whole commands, from JPEG files on.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from common.commands import row, trained
from common.contender import Contender
from common.gate import Gate
from common.machine_rates import matrix_products  # noqa: F401 - a contender of this file
from common.measure import measure
from common.results import arguments, best_ratio, case, claim, parsed, show, write_result
from common.striate_training import striate_training
from photo_loading import striate_first_epoch, torch_loader  # noqa: F401 - contenders of this file
from photos import repeated

PARTS = {
    "resnet18": {
        "model": "resnet18(stem=small)",
        "side": 32,
        "batch": 512,
        "border": 4,
        "images": 50_000,
        "steps": 100,
        "epochs": 250,
    },
    "resnet50": {
        "model": "resnet50",
        "side": 224,
        "batch": 256,
        "border": 16,
        "images": 10_240,
        "steps": 20,
        "epochs": 500,
    },
}
NAMES = {"resnet18": "ResNet-18 of CIFAR, batch 512", "resnet50": "ResNet-50 at 224 pixels, batch 256"}
QUICK = {
    "model": "resnet18(stem=small,width=8)",
    "side": 32,
    "batch": 16,
    "border": 4,
    "images": 64,
    "steps": 2,
    "epochs": 20,
}
JPEG_TARGET = 20_000
EPOCHS = (8, 16)
AIRBENCH = """Published: airbench94 takes 3.29 s on an A100 for 94 % of the original test images, once all is
compiled and in memory. The files here were compressed as JPEG, so no figure is that of the original images."""


def plain_torch(gate: Gate, part: dict[str, Any], bf16: bool, compiled: bool) -> None:
    """The loop that everyone writes, with all images and their augmentation on the GPU."""
    import torch
    from common.plain_torch import shifted_and_flipped
    from torch.nn import functional

    import striate

    device, side, border = "cuda" if torch.cuda.is_available() else "cpu", part["side"], part["border"]
    layout = torch.channels_last if bf16 else torch.contiguous_format
    images = torch.randint(0, 256, (part["images"], 3, side, side), dtype=torch.uint8).to(device)
    padded, labels = functional.pad(images, [border] * 4), torch.randint(0, 10, (part["images"],), device=device)
    network = striate.build(part["model"], (3, side, side), 10).to(device, memory_format=layout).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    # Not `network.compile`, which leaves a Sequential in parts.
    computed = torch.compile(network, dynamic=False) if compiled else network
    gate.say(precision="bf16" if bf16 else "fp32")

    def augmented(rows: Any) -> Any:
        x = shifted_and_flipped(padded, rows, side)
        return ((x.float() - 128) / 64).to(memory_format=layout)

    def batches() -> Any:
        while True:
            for rows in torch.randperm(len(labels), device=device).split(part["batch"]):
                if len(rows) == part["batch"]:
                    yield rows

    endless = batches()
    while True:
        gate.begin()
        for _ in range(part["steps"]):
            rows = next(endless)
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                loss = functional.cross_entropy(computed(augmented(rows)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        gate.end(part["steps"] * part["batch"])


def decode_alone(gate: Gate, folder: str) -> None:
    """Every file decoded by libjpeg-turbo at its full size in as many threads as cores, and thrown away."""
    import simplejpeg

    files = [file.read_bytes() for file in sorted((Path(folder) / "train").rglob("*.jpg"))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while True:
            gate.begin()
            done = sum(1 for _ in pool.map(simplejpeg.decode_jpeg, files))
            gate.end(done)


def trainings(name: str, quick: bool) -> list[Contender]:
    """All of a case."""
    part = QUICK if quick else PARTS[name]
    fields = {"model.name": part["model"], "batch": part["batch"], "optim.name": "sgd", "optim.lr": 0.05}
    fields |= {"optim.ema": 0.0, "optim.weight_decay": 5e-4, "augment.flip": True, "augment.shift": part["border"]}
    fields |= {"augment.crop": 1.0}  # no more than the peers do
    per_turn = part["steps"] * part["batch"]
    ours = Contender("striate", "striate_on_noise", {"part": part, "fields": fields, "per_turn": per_turn}, ours=True)
    peer = partial(Contender, function="plain_torch")
    return [
        ours,
        peer("torch fp32", options={"part": part, "bf16": False, "compiled": False}),
        peer("torch bf16, channels_last", options={"part": part, "bf16": True, "compiled": False}),
        peer("torch bf16, channels_last, compiled", options={"part": part, "bf16": True, "compiled": True}),
        Contender("matrix products", "matrix_products", {} if quick else {"device": "cuda"}),
    ]


def striate_on_noise(gate: Gate, part: dict[str, Any], fields: dict[str, Any], per_turn: int) -> None:
    """A long training on images of noise."""
    from common.quick import quick_data

    with quick_data((3, part["side"], part["side"]), samples=part["images"]) as file:
        striate_training(gate, data=str(file), fields=fields, epochs=part["epochs"], per_turn=per_turn)


def reading(repeats: int, quick: bool) -> dict[str, Any]:
    """The case of photographs."""
    files, workers = 128 if quick else 8_000, os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        repeated(Path(os.environ.get("STRIATE_DATA", "data")) / "flowers", Path(folder) / "photos", files)
        common = {"folder": f"{folder}/photos", "size": 160}
        ours = [
            Contender(
                f"striate, {store}",
                "striate_first_epoch",
                common | {"store": store, "packs": f"{folder}/packs-{store}"},
                ours=True,
            )
            for store in ("memory", "stream")
        ]
        peer = Contender(
            f"torch DataLoader, Pillow, {workers} workers", "torch_loader", common | {"packs": "", "workers": workers}
        )
        alone = Contender("decoding alone", "decode_alone", {"folder": f"{folder}/photos"})
        found = measure(__file__, [*ours, peer, alone], repeats=repeats, gently=quick)
    rate = found.pop().rates
    made = case("reading photographs, the first epoch", found, options={"files": files, "cores": workers})
    made["decoding"] = max(rate, default=0.0)
    return made | {"note": f"Decoding alone, on {workers} cores: {made['decoding']:,.0f} images/s at best."}


def cifar10(repeats: int, quick: bool) -> dict[str, Any]:
    """Whole commands with the fast recipe."""
    rows = []
    for epochs in EPOCHS[:1] if quick else EPOCHS:
        words = ["mnist5k" if quick else "cifar10", "--recipe", "speedrun", "--epochs", str(epochs)]
        runs = []
        for seed in range(1 if quick else repeats):
            seconds, metrics, _ = trained([*words, "--seed", str(seed)])
            runs.append({"accuracy": metrics["test"]["accuracy"], "epochs": metrics["epochs"], "seconds": seconds})
            runs[-1] |= {key: metrics[key] for key in ("train_seconds", "model", "params")}
        rows.append(row(f"striate, {epochs} epochs", runs, is_ours=True))
        print(rows[-1], flush=True)
    steps = ", ".join(f"{found['runs'][0]['train_seconds']:.1f} s of {found['contender']}" for found in rows)
    note = f"{AIRBENCH} Training alone, without reading, planning and measuring: {steps}."
    return {"name": "CIFAR-10 from JPEG files", "options": {}, "rows": rows, "missing": [], "note": note}


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--part", nargs="+", choices=[*PARTS, "reading", "cifar10"], default=None)
    asked = parsed(parser)
    import torch

    from striate.api import summarize

    if not torch.cuda.is_available() and not asked.quick:
        raise SystemExit("torch sees no GPU here")
    cases, claims, began = list[dict[str, Any]](), dict[str, Any](), perf_counter()
    for part in asked.part or [*PARTS, "reading", "cifar10"]:
        if part in PARTS:
            found = measure(__file__, trainings(part, asked.quick), repeats=asked.repeats, gently=asked.quick)
            side = PARTS[part]["side"]
            macs = summarize(PARTS[part]["model"], (3, side, side)).macs
            cases.append(case(NAMES[part], found, macs=macs))
        else:
            cases.append(
                reading(asked.repeats, asked.quick) if part == "reading" else cifar10(asked.repeats, asked.quick)
            )
        if part != "cifar10":
            print(show(cases[-1]), flush=True)
        if part == "reading":
            claims |= judged(cases[-1])
        elif part in PARTS and (ratio := best_ratio(cases[-1:])) is not None:
            claims[f"gpu-{part}"] = claim(f"{ratio:.2f}× the fastest peer", ratio >= 1)
        print(f"  [{perf_counter() - began:.0f} s]", flush=True)
        write_result(__file__, asked, cases, about=(__doc__ or "").split("\n\n")[2], claims=claims)


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """The files a second of the faster of ours, and what decoding alone reaches."""
    rates = {row["contender"]: row["images_per_second"]["median"] for row in found["rows"]}
    ours = max((rate for name, rate in rates.items() if name.startswith("striate")), default=0.0)
    told = f"{ours:,.0f} a second with {found['options']['cores']} cores; decoding alone {found['decoding']:,.0f}"
    return {"gpu-reading": claim(told, ours >= min(JPEG_TARGET, 0.9 * found["decoding"]))}


if __name__ == "__main__":
    main()
