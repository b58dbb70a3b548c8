"""Where are head and tail of the wasp? Two points an image, with Accelerate and gradients gathered over two batches."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

SIZE = 32


def draw_wasp(generator):
    def uniform(low, high):
        return low + (high - low) * torch.rand((), generator=generator).item()

    while True:
        head = torch.tensor([uniform(5, SIZE - 6), uniform(5, SIZE - 6)])
        angle, length = uniform(0, 2 * math.pi), uniform(8, 14)
        tail = head + length * torch.tensor([math.cos(angle), math.sin(angle)])
        if tail.min() >= 2 and tail.max() <= SIZE - 3:
            break
    y, x = torch.meshgrid(torch.arange(SIZE).float(), torch.arange(SIZE).float(), indexing="ij")
    grid = torch.stack([x, y], dim=-1)
    along = ((grid - head) @ (tail - head) / length**2).clamp(0, 1)
    distance = (grid - head - along[..., None] * (tail - head)).norm(dim=-1)
    image = 0.7 * (distance < 1.0).float()
    for _ in range(2):  # spots that belong to the leaf
        spot = torch.tensor([uniform(2, SIZE - 3), uniform(2, SIZE - 3)])
        image = image.maximum(0.5 * ((grid - spot).norm(dim=-1) < 1.6).float())
    image = image.maximum(((grid - head).norm(dim=-1) < 3.0).float())
    image = image + 0.06 * torch.randn(image.shape, generator=generator)
    return image[None], torch.stack([head, tail])


class Wasps(Dataset):
    """Images with their points, x before y, in parts of the image's width."""

    def __init__(self, count, seed, augment=False):
        generator = torch.Generator().manual_seed(seed)
        self.items = [draw_wasp(generator) for _ in range(count)]
        self.augment = augment

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        image, points = self.items[index]
        points = points.clone()
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            points[:, 0] = SIZE - 1 - points[:, 0]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-2)
            points[:, 1] = SIZE - 1 - points[:, 1]
        image = (image - 0.12) / 0.25
        return image, points / SIZE


class PointNet(nn.Module):
    def __init__(self):
        super().__init__()

        def stage(inputs, outputs, stride):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            )

        self.stages = nn.Sequential(stage(1, 16, 1), stage(16, 32, 2), stage(32, 64, 2), stage(64, 64, 2))
        self.points = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Linear(128, 4),
            nn.Sigmoid(),
        )

    def forward(self, images):
        return self.points(self.stages(images)).view(-1, 2, 2)


def training_function(config):
    set_seed(config["seed"])
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config["accumulate"])
    train_loader = DataLoader(Wasps(2560, seed=0, augment=True), batch_size=config["batch_size"], shuffle=True)
    eval_loader = DataLoader(Wasps(400, seed=1), batch_size=100)

    model = PointNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-4)
    updates = config["epochs"] * math.ceil(len(train_loader) / config["accumulate"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)
    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, scheduler
    )

    for epoch in range(config["epochs"]):
        model.train()
        total = 0.0
        for images, points in train_loader:
            with accelerator.accumulate(model):
                predicted = model(images)
                loss = F.smooth_l1_loss(predicted, points, beta=0.05)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.item()

        model.eval()
        distances = []
        for images, points in eval_loader:
            with torch.no_grad():
                predicted = model(images)
            predicted, points = accelerator.gather_for_metrics((predicted, points))
            distances.append((predicted - points).norm(dim=-1) * SIZE)
        distances = torch.cat(distances)
        accelerator.print(
            f"epoch {epoch}: train loss {total / len(train_loader):.5f}, "
            f"error head {distances[:, 0].mean():.2f} tail {distances[:, 1].mean():.2f} pixels, "
            f"within three pixels {(distances < 3).float().mean():.3f}"
        )


def main():
    training_function({"seed": 7, "lr": 2e-3, "epochs": 18, "batch_size": 32, "accumulate": 2})


if __name__ == "__main__":
    main()
