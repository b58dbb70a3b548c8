"""A set of pictures with given splits, and defects of every kind to plant in it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

TRAIN, TEST = 14, 6


def smooth(seed: int, side: int = 48) -> Image.Image:
    """A picture of soft colors, unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def write_clean(root: Path, classes: tuple[str, ...] = ("daisy", "rose", "tulip")) -> Path:
    """`root`/train and `root`/test with folders of pictures that have no defect."""
    for k, name in enumerate(classes):
        for i in range(TRAIN + TEST):
            folder = root / ("train" if i < TRAIN else "test") / name
            folder.mkdir(parents=True, exist_ok=True)
            smooth(1000 * k + i).save(folder / f"{_word(k, i)}.jpg", quality=92)
    return root


def _word(k: int, i: int) -> str:
    """A name that follows no other in a row."""
    return f"{np.random.default_rng((k, i)).integers(10**9)}"


class Planter:
    """Plants defects in a folder with train/ and test/; each method returns the paths that must be found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.classes = sorted(folder.name for folder in (root / "train").iterdir())
        self.unused = {
            (split, k): sorted((root / split / self.classes[k]).glob("*.jpg"))
            for split in ("train", "test")
            for k in (0, 1)
        }

    def take(self, split: str = "train", k: int = 0) -> Path:
        """A picture that no other defect has to do with."""
        return self.unused[split, k].pop()

    def place(self, name: str, split: str = "train", k: int = 0) -> Path:
        """A new path in the folder of a class."""
        return self.root / split / self.classes[k] / name

    def beside(self, path: Path, name: str, *, split: str = "", label: str = "") -> Path:
        """A new path in the folder of another, or in another split or class."""
        folder = self.root / (split or path.parts[-3]) / (label or path.parts[-2])
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def said(self, *paths: Path) -> set[str]:
        return {path.relative_to(self.root).as_posix() for path in paths}

    def truncated(self) -> set[str]:
        path = self.take()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return self.said(path)

    def empty(self) -> set[str]:
        path = self.place("empty.jpg")
        path.write_bytes(b"")
        return self.said(path)

    def no_picture(self) -> set[str]:
        path = self.place("words.jpg")
        path.write_text("no picture")
        return self.said(path)

    def bomb(self) -> set[str]:
        path = self.place("bomb.png")
        Image.new("1", (20_000, 20_000)).save(path)
        return self.said(path)

    def wrong_suffix(self) -> set[str]:
        path = self.place("png.jpg")
        smooth(70_001).save(path, format="PNG")
        return self.said(path)

    def copy_in_split(self) -> set[str]:
        path = self.take()
        copy = self.beside(path, "copy.jpg")
        shutil.copyfile(path, copy)
        return self.said(path, copy)

    def re_encoded_in_split(self) -> set[str]:
        path = self.take()
        copy = self.beside(path, "again.jpg")
        _open(path).save(copy, quality=70)
        return self.said(path, copy)

    def leak(self) -> set[str]:
        path = self.take("test")
        copy = self.beside(path, "leaked.jpg", split="train")
        shutil.copyfile(path, copy)
        return self.said(path, copy)

    def leak_re_encoded(self) -> set[str]:
        path = self.take("test")
        copy = self.beside(path, "compressed.jpg", split="train")
        _open(path).save(copy, quality=60)
        return self.said(path, copy)

    def leak_resized(self) -> set[str]:
        path = self.take("test")
        copy = self.beside(path, "resized.png", split="train")
        image = _open(path)
        image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS).save(copy)
        return self.said(path, copy)

    def two_labels(self) -> set[str]:
        path = self.take()
        copy = self.beside(path, "other.jpg", label=self.classes[1])
        shutil.copyfile(path, copy)
        return self.said(path, copy)

    def two_labels_re_encoded(self) -> set[str]:
        path = self.take()
        copy = self.beside(path, "alike.jpg", label=self.classes[1])
        _open(path).save(copy, quality=70)
        return self.said(path, copy)

    def blank(self) -> set[str]:
        path, size = self.place("blank.jpg", k=1), _open(self.take(k=1)).size
        Image.new("RGB", size, (255, 255, 255)).save(path)
        return self.said(path)

    def one_color(self) -> set[str]:
        path, size = self.place("red.png", k=1), _open(self.take(k=1)).size
        Image.new("RGB", size, (200, 30, 40)).save(path)
        return self.said(path)

    def tiny(self) -> set[str]:
        path = self.place("tiny.png", k=1)
        smooth(70_002, 9).save(path)
        return self.said(path)

    def huge(self) -> set[str]:
        image = _open(self.take(k=1))
        path = self.place("huge.jpg", k=1)
        smooth(70_003, 8 * max(image.size)).save(path)
        return self.said(path)

    def gray(self) -> set[str]:
        path = self.place("gray.jpg", k=1)
        smooth(70_004).convert("L").save(path)
        return self.said(path)

    def inks(self) -> set[str]:
        path = self.place("inks.jpg", k=1)
        smooth(70_005).convert("CMYK").save(path)
        return self.said(path)

    def turned(self) -> set[str]:
        path = self.place("turned.jpg", k=1)
        exif = Image.Exif()
        exif[0x0112] = 6
        smooth(70_006).save(path, exif=exif)
        return self.said(path)

    def hidden(self) -> set[str]:
        (self.root / "train" / ".DS_Store").write_bytes(b"\0")
        return set()

    def unsupported(self) -> set[str]:
        self.place("photo.psd", k=1).write_bytes(b"8BPS")
        return set()

    def misplaced(self) -> set[str]:
        smooth(70_007).save(self.root / "train" / "loose.png")
        return set()

    def second_name(self) -> set[str]:
        """A class under a second name, with few samples, none of them in test."""
        for i in range(2):
            name = self.classes[2]
            folder = self.root / "train" / (name[:-1] if name.endswith("s") else f"{name}s")
            folder.mkdir(exist_ok=True)
            smooth(70_010 + i).save(folder / f"odd{i}.jpg")
        return set()

    def frames(self) -> set[str]:
        """A recording that moves a little from frame to frame, every third frame in test."""
        paths, scene = [], smooth(70_020, 96)
        for i in range(9):
            path = self.place(f"clip_{i:04}.png", "test" if i % 3 == 2 else "train", k=1)
            scene.crop((2 * i, i, 2 * i + 64, i + 64)).save(path)
            paths.append(path)
        return self.said(*paths)


def _open(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(path.read_bytes()))).convert("RGB")


KINDS: dict[str, str] = {
    "truncated": "data.unreadable",
    "empty": "data.unreadable",
    "no_picture": "data.unreadable",
    "bomb": "data.unreadable",
    "wrong_suffix": "data.wrong-suffix",
    "copy_in_split": "data.duplicates",
    "re_encoded_in_split": "data.near-duplicates",
    "leak": "data.leak",
    "leak_re_encoded": "data.leak",
    "leak_resized": "data.leak",
    "two_labels": "data.label-noise",
    "two_labels_re_encoded": "data.label-noise",
    "blank": "data.constant-images",
    "one_color": "data.constant-images",
    "tiny": "data.tiny-images",
    "huge": "data.huge-images",
    "gray": "data.mixed-modes",
    "inks": "data.mixed-modes",
    "turned": "data.exif-rotation",
    "hidden": "data.hidden",
    "unsupported": "data.unsupported",
    "misplaced": "data.misplaced",
    "second_name": "data.label-names",
    "frames": "data.frame-leak",
}
"""Each kind of defect, and the code of the finding that must name it."""


def plant(root: Path, kinds: tuple[str, ...] = tuple(KINDS)) -> dict[str, set[str]]:
    """Plant the defects; the paths that each must be found with."""
    planter = Planter(root)
    methods: dict[str, Callable[[], set[str]]] = {kind: getattr(planter, kind) for kind in kinds}
    return {kind: method() for kind, method in methods.items()}
