"""Find the license plate: one box per picture of a car, regressed by a convnet. Training loop with Accelerate."""
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

SIZE = 48


@dataclass
class Config:
    seed: int = 11
    count: int = 2000
    val_count: int = 300
    batch_size: int = 32
    epochs: int = 16
    lr: float = 1e-3
    max_grad_norm: float = 1.0


def draw_car(rng):
    """A car from behind, 48 x 48 x 3 bytes, and its plate's box: center x, center y, width, height from 0 to 1."""
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    image[:] = np.linspace(0.7, 0.35, SIZE)[:, None, None] * rng.uniform(0.8, 1.2)
    width, height = rng.integers(28, 40), rng.integers(26, 38)
    left, top = rng.integers(0, SIZE - width + 1), rng.integers(2, SIZE - height + 1)
    paint = rng.uniform(0.05, 0.65, 3)
    image[top : top + height, left : left + width] = paint
    glass = height // 3
    image[top + 2 : top + glass, left + 4 : left + width - 4] = 0.15
    for side in (left + 1, left + width - 5):  # lamps
        image[top + glass + 1 : top + glass + 5, side : side + 4] = (0.9, 0.15, 0.1)
    w, h = int(rng.integers(13, 21)), int(rng.integers(6, 10))
    x = int(rng.integers(left + 1, left + width - w))
    y = int(rng.integers(top + glass + 5, max(top + glass + 6, top + height - h)))
    y = min(y, SIZE - h)
    image[y : y + h, x : x + w] = (0.95, 0.95, 0.9) if rng.random() < 0.7 else (0.95, 0.8, 0.2)
    for column in range(x + 2, x + w - 2, 3):  # letters
        image[y + 2 : y + h - 2, column : column + 2] *= rng.uniform(0.1, 0.6, (h - 4, 1, 1))
    image = image + rng.normal(0, 0.03, image.shape)
    box = np.array([x + w / 2, y + h / 2, w, h], np.float32) / SIZE
    return (image.clip(0, 1) * 255).astype(np.uint8), box


class PlateSet(Dataset):
    def __init__(self, images, boxes, flip=False):
        self.images, self.boxes, self.flip = images, boxes, flip

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).permute(2, 0, 1).float()
        image = (image / 255 - 0.45) / 0.25
        box = torch.from_numpy(self.boxes[i]).clone()
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(2)
            box[0] = 1 - box[0]
        return {"pixel_values": image, "box": box}


class PlateFinder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(48 * 6 * 6, 96), nn.ReLU(),
        )
        for layer in self.body:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.box = nn.Linear(96, 4)

    def forward(self, pixel_values):
        return torch.sigmoid(self.box(self.body(pixel_values)))


def corners(boxes):
    center, size = boxes[:, :2], boxes[:, 2:]
    return center - size / 2, center + size / 2


def iou(predicted, wanted):
    (start_a, end_a), (start_b, end_b) = corners(predicted), corners(wanted)
    overlap = (torch.minimum(end_a, end_b) - torch.maximum(start_a, start_b)).clamp(min=0).prod(1)
    return overlap / (predicted[:, 2:].prod(1) + wanted[:, 2:].prod(1) - overlap + 1e-9)


def load_splits(config):
    rng = np.random.default_rng(config.seed)
    cars = [draw_car(rng) for _ in range(config.count)]
    images, boxes = np.stack([image for image, _ in cars]), np.stack([box for _, box in cars])
    order = rng.permutation(config.count)
    images, boxes = images[order], boxes[order]
    train_set = PlateSet(images[config.val_count :], boxes[config.val_count :], flip=True)
    val_set = PlateSet(images[: config.val_count], boxes[: config.val_count])
    return train_set, val_set


def evaluate(accelerator, model, val_loader):
    model.eval()
    ious, errors = [], []
    for batch in val_loader:
        with torch.no_grad():
            predicted = model(batch["pixel_values"])
        predicted, wanted = accelerator.gather_for_metrics((predicted, batch["box"]))
        ious.append(iou(predicted, wanted))
        errors.append((predicted[:, :2] - wanted[:, :2]).norm(dim=1) * SIZE)
    return torch.cat(ious).mean().item(), torch.cat(errors).mean().item()


def main(config):
    torch.set_num_threads(1)
    set_seed(config.seed)
    accelerator = Accelerator(cpu=True)
    train_set, val_set = load_splits(config)
    train_loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)

    model = PlateFinder()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs)
    criterion = nn.SmoothL1Loss(beta=0.05)
    model, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, train_loader, val_loader)

    for epoch in range(config.epochs):
        model.train()
        total = 0.0
        for batch in train_loader:
            predicted = model(batch["pixel_values"])
            loss = criterion(predicted, batch["box"])
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            total += loss.item()
        scheduler.step()
        mean_iou, error = evaluate(accelerator, model, val_loader)
        accelerator.print(
            f"epoch {epoch}: train loss {total / len(train_loader):.5f}, val IoU {mean_iou:.3f}, off by {error:.2f} pixels"
        )


if __name__ == "__main__":
    main(Config())
