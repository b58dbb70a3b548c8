"""Training ResNet-18 on photographs of 160 × 160 from a folder of JPEG files: striate beside plain torch.

Command: STRIATE_DATA=… python benchmarks/photos.py [--files 2000] [--epochs 3] [--repeats 3]

The photographs of STRIATE_DATA/flowers are repeated to 2,000 files, each made another file by a comment in it. A repeat
is a fresh process with nothing kept from before (no pack, no plan; the system's cache of files is warm for all). Its
first epoch counts from before the data are looked at: reading, planning and preparing are in it. Later epochs count by
themselves. Batch 32, SGD with momentum; images are brought to 160 pixels, shifted by up to 8 pixels and flipped by
chance; no validation. Plain torch opens each file with Pillow in a Dataset, with 2 DataLoader workers, in fp32. Loading
alone: benchmarks/photo_loading.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.machine_rates import MATRIX_PRODUCTS, matrix_products  # noqa: F401 - contenders of this file
from common.measure import Measured, measure
from common.results import arguments, best_ratio, case, claim, parsed, show, write_result
from common.striate_training import striate_contender, striate_training  # noqa: F401

MODEL, BATCH, BORDER = "resnet18", 32, 8
TARGET = 2.0


def repeated(source: Path, folder: Path, files: int) -> None:
    """train/CLASS/K.jpg: so many files, no two the same, and a few each in val/ and test/."""
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise SystemExit(f"no JPEG files below {source}: set STRIATE_DATA to a folder that holds flowers/CLASS/*.jpg")
    for part, count in (("train", files), ("val", 20), ("test", 20)):
        for number in range(count):
            # In the order of files a few would be of one class.
            photo = found[(number * 7919) % len(found)]
            out = folder / part / photo.parent.name / f"{number:05}.jpg"
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(with_comment(photo.read_bytes(), f"{part} {number}"))


def with_comment(jpeg: bytes, text: str) -> bytes:
    """The same picture as another file: a comment segment after the first marker."""
    comment = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def plain_torch(gate: Gate, folder: str, size: int) -> None:
    """A Dataset over files, as tutorials have it."""
    import torch
    from common.plain_torch import Samples
    from PIL import Image, ImageOps
    from torch.nn import functional
    from torch.utils.data import DataLoader

    import striate

    class Photographs(Samples):
        def __init__(self, root: Path) -> None:
            classes = sorted(p.name for p in root.iterdir())
            self.files = sorted(root.rglob("*.jpg"))
            y = torch.tensor([classes.index(f.parent.name) for f in self.files])
            super().__init__(torch.empty(0), y, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], border=BORDER, flip=True)

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self.varied(self.picture(i)), self.y[i]

        def picture(self, i: int) -> torch.Tensor:
            import numpy as np

            with Image.open(self.files[i]) as opened:
                fitted = ImageOps.fit(opened.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)

    gate.begin()
    loader = DataLoader(Photographs(Path(folder) / "train"), BATCH, shuffle=True, num_workers=2)
    network = striate.build(MODEL, (3, size, size), 5).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    while True:
        for x, y in loader:
            loss = functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        gate.end(len(loader.dataset))
        gate.begin()


def contenders(folder: str, cache: str, size: int, epochs: int) -> list[Contender]:
    """All of a round, with `cache` for what striate keeps."""
    fields = {"model.name": MODEL, "batch": BATCH, "optim.name": "sgd", "optim.lr": 0.02, "optim.ema": 0.0}
    fields |= {"augment.flip": True, "augment.shift": BORDER, "augment.crop": 1.0, "data.packs": f"{cache}/packs"}
    ours = striate_contender("striate", data=folder, fields=fields, epochs=epochs, size=size, everything=True)
    return [
        replace(ours, environment=ours.environment | {"STRIATE_CACHE": cache}),
        Contender("torch fp32, Pillow, 2 workers", "plain_torch", {"folder": folder, "size": size}),
        MATRIX_PRODUCTS,
    ]


def joined(rounds: Sequence[list[Measured]], turns: slice) -> list[Measured]:
    """Each contender's turns `turns` of all rounds together; the rates of the machine from all turns."""
    together = []
    for same in zip(*rounds, strict=True):
        chosen = slice(None) if same[0].contender is MATRIX_PRODUCTS else turns
        lost = next((one.lost for one in same if one.lost is not None), None)
        all_turns = [turn for one in same for turn in one.turns[chosen]]
        peak = max(one.peak_bytes for one in same)
        together.append(Measured(same[0].contender, all_turns, [], same[0].facts, peak, lost))
    return together


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=3, help="of each repeat; all but the first are later ones")
    asked = parsed(parser)
    files, size = (64, 32) if asked.quick else (asked.files, asked.size)
    from striate.api import summarize

    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        repeated(Path(os.environ.get("STRIATE_DATA", "data")) / "flowers", Path(folder) / "photos", files)
        for number in range(asked.repeats):
            taking_part = contenders(f"{folder}/photos", f"{folder}/cache-{number}", size, asked.epochs)
            rounds.append(
                measure(__file__, taking_part, repeats=asked.epochs, warm_up=0, gently=asked.quick, watch=True)
            )
    macs = summarize(MODEL, (3, size, size)).macs
    options = {"files": files, "size": size, "batch": BATCH}
    cases = [
        case("first epoch, everything before it included", joined(rounds, slice(1)), macs=macs, options=options),
        case("later epochs", joined(rounds, slice(1, None)), macs=macs, options=options),
    ]
    for made in cases:
        print(show(made), flush=True)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2], claims=verdicts(cases))


def verdicts(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Against plain torch, in the first epoch and later."""
    made = {}
    for found, key in zip(cases, ("photos-first", "photos-later"), strict=True):
        ratio = best_ratio([found])
        if ratio is not None:
            made[key] = claim(f"{ratio:.3f}× plain torch", ratio >= TARGET)
    return made


if __name__ == "__main__":
    main()
