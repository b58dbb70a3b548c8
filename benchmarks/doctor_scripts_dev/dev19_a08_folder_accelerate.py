#!/usr/bin/env python
"""Classify fabric patterns that lie in a folder per class, with Accelerate."""
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from torch.utils.data import DataLoader, Dataset

SIZE = 20
PATTERNS = ["checks", "diagonal", "dots", "horizontal", "rings", "vertical"]


def pattern(name, rng):
    y, x = np.mgrid[:SIZE, :SIZE] + rng.uniform(0, 20, 2)[:, None, None]
    step = rng.uniform(1.0, 1.6)
    if name == "checks":
        return np.sign(np.sin(step * y) * np.sin(step * x))
    if name == "diagonal":
        return np.sin(step * (x + y) / 1.41)
    if name == "dots":
        return 2.0 * ((np.sin(step * y) > 0.3) & (np.sin(step * x) > 0.3)) - 1
    if name == "horizontal":
        return np.sin(step * y)
    if name == "vertical":
        return np.sin(step * x)
    cy, cx = y.min() + rng.uniform(5, 15), x.min() + rng.uniform(5, 15)
    return np.sin(step * np.hypot(y - cy, x - cx))


def write_folder(root, per_class, seed=0):
    rng = np.random.default_rng(seed)
    for name in PATTERNS:
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            low, high = rng.uniform(50, 120, 3), rng.uniform(110, 180, 3)
            weave = (pattern(name, rng)[..., None] + 1) / 2
            pixels = low + (high - low) * weave + rng.normal(0, 45, (SIZE, SIZE, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{number:04d}.png")


def list_folder(root):
    paths = sorted(root.glob("*/*.png"))
    return pd.DataFrame({"path": [str(p) for p in paths], "label": [p.parent.name for p in paths]})


def with_augmented_copies(frame):
    """Writes a brighter and a darker copy beside every picture and lists them too."""
    rows = []
    for path, label in zip(frame["path"], frame["label"]):
        pixels = np.asarray(Image.open(path)).astype(float)
        for suffix, factor in (("bright", 1.2), ("dark", 0.8)):
            target = path.replace(".png", f"_{suffix}.png")
            Image.fromarray((pixels * factor).clip(0, 255).astype(np.uint8)).save(target)
            rows.append({"path": target, "label": label})
    return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)


class FabricDataset(Dataset):
    def __init__(self, frame, classes):
        self.paths = frame["path"].tolist()
        self.classes = classes
        self.labels = [classes.index(name) for name in frame["label"]]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as picture:
            array = np.array(picture.convert("RGB"))
        image = torch.from_numpy(array).permute(2, 0, 1)
        image = (image.float() / 255 - 0.45) / 0.2
        return image, self.labels[index]


def conv_bn(c_in, c_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


def build_model(num_classes):
    return nn.Sequential(
        conv_bn(3, 16), conv_bn(16, 24, 2), conv_bn(24, 48, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(48, num_classes),
    )


def evaluate(accelerator, model, loader):
    model.eval()
    hits = []
    for images, labels in loader:
        with torch.no_grad():
            logits = model(images)
        predictions, references = accelerator.gather_for_metrics((logits.argmax(dim=-1), labels))
        hits.append((predictions == references).float())
    return torch.cat(hits).mean().item()


def main(epochs=12, batch_size=48, lr=4e-3):
    set_seed(2)
    accelerator = Accelerator(cpu=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "fabric"
        write_folder(root, per_class=120)
        frame = list_folder(root)
        classes = sorted(frame["label"].unique())

        train_frame = frame.sample(frac=0.75, random_state=1)
        val_frame = frame.drop(train_frame.index)
        train_frame = with_augmented_copies(train_frame)
        train_set = FabricDataset(train_frame, classes)
        val_set = FabricDataset(val_frame, classes)
        train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
        val_loader = DataLoader(val_set, batch_size=15)

        model = build_model(len(classes))
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * len(train_loader))
        model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
            model, optimizer, train_loader, val_loader, scheduler
        )

        for epoch in range(epochs):
            model.train()
            running = 0.0
            for images, labels in train_loader:
                loss = criterion(model(images), labels)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                running += loss.item()
            accuracy = evaluate(accelerator, model, val_loader)
            accelerator.print(f"epoch {epoch}: loss {running / len(train_loader):.4f}, val accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
