"""What is in the street? Several labels for each picture, trained with Accelerate."""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

LABELS = ["red light", "amber light", "green light", "bus", "crossing"]
LAMPS = np.array([[0.95, 0.15, 0.1], [0.95, 0.7, 0.1], [0.15, 0.85, 0.35]])


@dataclass
class Config:
    train_count: int = 1600
    val_count: int = 320
    batch_size: int = 32
    epochs: int = 14
    lr: float = 2e-3
    weight_decay: float = 1e-2
    step_size: int = 5
    gamma: float = 0.4
    seed: int = 21


def draw_street(rng, size=32):
    present = rng.random(len(LABELS)) < 0.4
    image = np.ones((size, size, 3)) * (np.array([0.55, 0.6, 0.68]) + rng.normal(0, 0.04, 3))
    horizon = int(rng.integers(18, 23))
    image[horizon:] = rng.uniform(0.3, 0.42)
    for _ in range(rng.integers(2, 5)):  # houses
        left, top = int(rng.integers(0, size - 6)), int(rng.integers(3, horizon - 3))
        image[top:horizon, left : left + int(rng.integers(4, 8))] = rng.uniform(0.35, 0.65) + rng.normal(0, 0.03, 3)
    if present[4]:
        left, top = int(rng.integers(0, size - 13)), int(rng.integers(horizon + 1, size - 5))
        for stripe in range(4):
            image[top : top + 5, left + 3 * stripe : left + 3 * stripe + 2] = rng.uniform(0.85, 1)
    if present[3]:
        left, top = int(rng.integers(0, size - 12)), horizon - int(rng.integers(3, 6))
        image[top : top + 6, left : left + 12] = np.array([0.1, 0.2, 0.75]) + rng.normal(0, 0.04, 3)
        image[top + 1 : top + 3, left + 1 : left + 11 : 3] = 0.85
    columns = rng.permutation(4) * 8 + rng.integers(0, 2)
    yy, xx = np.mgrid[0:size, 0:size]
    for lamp in range(3):
        if present[lamp]:
            cy, cx = int(rng.integers(4, 14)), int(columns[lamp]) + 3
            image[cy - 3 : cy + 4, cx - 3 : cx + 4] = 0.08
            disc = (yy - cy) ** 2 + (xx - cx) ** 2 <= rng.uniform(3.5, 5.5)
            image[disc] = LAMPS[lamp] * rng.uniform(0.85, 1.05)
    image = image + rng.normal(0, 0.04, image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), present.astype(np.float32)


class StreetDataset(Dataset):
    def __init__(self, count, seed, train):
        rng = np.random.default_rng(seed)
        samples = [draw_street(rng) for _ in range(count)]
        self.images = torch.from_numpy(np.stack([image for image, _ in samples])).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(np.stack([labels for _, labels in samples]))
        self.train = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index].float() / 255
        if self.train:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
            image = image * (0.9 + 0.2 * torch.rand(()))
        return (image - 0.48) / 0.22, self.labels[index]


def conv(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class StreetNet(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.body = nn.Sequential(conv(3, 16), nn.MaxPool2d(2), conv(16, 32), nn.MaxPool2d(2), conv(32, 48))
        self.head = nn.Linear(2 * 48, outputs)

    def forward(self, x):
        x = self.body(x)
        pooled = torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)
        return self.head(pooled)


def evaluate(accelerator, model, loader):
    model.eval()
    hits = torch.zeros(len(LABELS))
    false_alarms, missed = torch.zeros(len(LABELS)), torch.zeros(len(LABELS))
    exact, count = 0, 0
    for images, targets in loader:
        with torch.no_grad():
            logits = model(images)
        logits, targets = accelerator.gather_for_metrics((logits, targets))
        predicted = torch.sigmoid(logits) > 0.5
        actual = targets.bool()
        hits += (predicted & actual).sum(dim=0)
        false_alarms += (predicted & ~actual).sum(dim=0)
        missed += (~predicted & actual).sum(dim=0)
        exact += (predicted == actual).all(dim=1).sum().item()
        count += len(targets)
    f1 = 2 * hits / (2 * hits + false_alarms + missed).clamp(min=1)
    return f1, exact / count


def main(config=Config()):
    torch.set_num_threads(1)
    set_seed(config.seed)
    accelerator = Accelerator(cpu=True)

    train_loader = DataLoader(
        StreetDataset(config.train_count, seed=1, train=True), batch_size=config.batch_size, shuffle=True
    )
    val_loader = DataLoader(StreetDataset(config.val_count, seed=2, train=False), batch_size=80)

    model = StreetNet(len(LABELS))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=config.step_size, gamma=config.gamma)
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )

    for epoch in range(config.epochs):
        model.train()
        losses = []
        for images, targets in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), targets)
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.detach().item())
        scheduler.step()

        f1, exact = evaluate(accelerator, model, val_loader)
        accelerator.print(
            f"epoch {epoch + 1:2d} | loss {np.mean(losses):.4f} | macro F1 {f1.mean():.3f} | all right {exact:.3f}"
        )
    for name, value in zip(LABELS, f1.tolist()):
        accelerator.print(f"{name:>12}: F1 {value:.3f}")


if __name__ == "__main__":
    main()
