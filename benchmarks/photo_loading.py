"""Reading photographs, without a network: striate beside a DataLoader of torch that opens files with Pillow.

Command: STRIATE_DATA=… python benchmarks/photo_loading.py [--files 2000] [--size 160] [--repeats 5]

The photographs of STRIATE_DATA/flowers are repeated to 2,000 files, each made another file by a comment in it. A turn
is an epoch in batches of 64, in shuffled order, of 160 × 160 pixels as bytes; the system's cache of files is warm. The
first epoch of striate is all from the folder to the last batch: listing, hashing and headers of all files, decoding,
splitting; later ones come from memory, from a pack, or are decoded again (stream). The DataLoader has 2 workers, and
opens, converts, fits and stacks each file.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.measure import measure
from common.results import arguments, best_ratio, case, claim, parsed, show, write_result
from photos import repeated

BATCH = 64
TARGET, STREAM_TARGET = 1.6, 1.3


def torch_loader(gate: Gate, folder: str, size: int, packs: str, workers: int = 2) -> None:
    """Each file opened with Pillow in a worker, as tutorials have it, but for the floats: bytes, like ours."""
    del packs
    import numpy as np
    import torch
    from PIL import Image, ImageOps
    from torch.utils.data import DataLoader, Dataset

    class Photographs(Dataset):
        def __init__(self) -> None:
            self.files = sorted((Path(folder) / "train").rglob("*.jpg"))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            with Image.open(self.files[i]) as opened:
                fitted = ImageOps.fit(opened.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(fitted)).permute(2, 0, 1), i

    loader = DataLoader(Photographs(), BATCH, shuffle=True, num_workers=workers)
    while True:
        gate.begin()
        gate.end(sum(len(images) for images, _ in loader))


def striate_first_epoch(gate: Gate, folder: str, size: int, packs: str, store: str) -> None:
    """Everything from the folder to the last batch, with nothing kept from before. A pack is made by each turn anew."""
    from striate.machine.second_process import allow_second

    allow_second()  # as the program, which may read in processes
    for turn in itertools.count():
        gate.begin()
        read = _read(folder, size, f"{packs}/{turn}", store)
        samples = _pass(read, turn)
        gate.end(samples + len(read.splits["val"]) + len(read.splits["test"]))


def striate_later_epoch(gate: Gate, folder: str, size: int, packs: str, store: str) -> None:
    """An epoch over data that were read before."""
    read = _read(folder, size, packs, store)
    for turn in itertools.count():
        gate.begin()
        gate.end(_pass(read, turn))


def _read(folder: str, size: int, packs: str, store: Any) -> Any:
    from striate.data.config import DataConfig
    from striate.data.read import load_dataset

    return load_dataset(DataConfig(source=folder, size=(size, size), store=store, packs=packs))


def _pass(read: Any, epoch: int) -> int:
    from striate.data.loader import batches, epoch_order

    train = read.splits["train"]
    return sum(len(batch.ids) for batch in batches(train, BATCH, order=epoch_order(len(train), 0, epoch)))


def contenders(folder: str, packs: str, size: int, *, first: bool) -> list[Contender]:
    """All of a case."""
    common = {"folder": f"{folder}/photos", "size": size}
    function, name = ("striate_first_epoch", "first") if first else ("striate_later_epoch", "later")
    ours = [
        Contender(
            f"striate, {store}",
            function,
            common | {"store": store, "packs": f"{packs}/{name}-{store}"},
            ours=True,
        )
        for store in ("memory", "pack", "stream")
    ]
    return [*ours, Contender("torch DataLoader, Pillow, 2 workers", "torch_loader", common | {"packs": packs})]


def ratio_of(contender: str, found: dict[str, Any]) -> float | None:
    """One of ours over the best peer."""
    return next((row["ratio"] for row in found["rows"] if row["contender"] == contender), None)


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--size", type=int, default=160)
    asked = parsed(parser)
    files = 128 if asked.quick else asked.files
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        repeated(Path(os.environ.get("STRIATE_DATA", "data")) / "flowers", Path(folder) / "photos", files)
        for first in (True, False):
            taking_part = contenders(folder, f"{folder}/packs", asked.size, first=first)
            found = measure(__file__, taking_part, repeats=asked.repeats, gently=asked.quick, watch=True)
            name = "first epoch, from the folder on" if first else "later epochs"
            cases.append(case(name, found, options={"files": files, "size": asked.size, "batch": BATCH}))
            print(show(cases[-1]), flush=True)
    claims = {}
    for key, ratio, target in (
        ("photo-loading", best_ratio(cases[:1]), TARGET),
        ("photo-stream", ratio_of("striate, stream", cases[0]), STREAM_TARGET),
    ):
        if ratio is not None:
            claims[key] = claim(f"{ratio:.2f}× torch's DataLoader", ratio >= target)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2], claims=claims)


if __name__ == "__main__":
    main()
