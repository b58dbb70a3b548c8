#!/usr/bin/env python
"""Where is the object, and how large is it? Regression of its center and width with 🤗 Accelerate."""
import math
import os
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import get_cosine_schedule_with_warmup

from toydata import Shapes

SIZE = 24
NUM_EPOCHS = 10
BATCH_SIZE = 32
LEARNING_RATE = 2e-3
WARMUP_RATIO = 0.25


class ObjectDataset(Dataset):
    """Images lie as OpenCV leaves them: height x width x channels, uint8."""

    def __init__(self, train):
        shapes = Shapes(train=train, size=SIZE)
        self.images = [
            np.ascontiguousarray((image.permute(1, 2, 0) * 255).round().byte().numpy()) for image in shapes.images
        ]
        boxes = torch.stack(shapes.boxes)
        self.centers = boxes[:, :2] + boxes[:, 2:] - 1  # from -1 to 1
        self.widths = (boxes[:, 2] - boxes[:, 0] - 0.46) / 0.06
        self.augment = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        pixels = torch.from_numpy(self.images[idx]).permute(2, 0, 1)
        pixels = (pixels.float() / 255 - 0.5) / 0.2
        center = self.centers[idx].clone()
        if self.augment and torch.rand(1).item() < 0.5:
            pixels = pixels.flip(-1)
            center[0] = -center[0]
        return {"pixel_values": pixels, "center": center, "width": self.widths[idx]}


class Localizer(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * (SIZE // 4) ** 2, hidden), nn.ReLU(),
        )
        self.center_head = nn.Linear(hidden, 2)
        self.width_head = nn.Linear(hidden, 1)

    def forward(self, pixel_values):
        h = self.body(pixel_values)
        return self.center_head(h), self.width_head(h).squeeze(-1)


def evaluate(accelerator, model, loader):
    model.eval()
    centers, widths = [], []
    for batch in loader:
        with torch.no_grad():
            center, width = model(batch["pixel_values"])
        center, width, true_center, true_width = accelerator.gather_for_metrics(
            (center, width, batch["center"], batch["width"])
        )
        centers.append((center - true_center).norm(dim=1) * SIZE / 2)
        widths.append((width - true_width).abs() * 0.06 * SIZE)
    return torch.cat(centers).mean().item(), torch.cat(widths).mean().item()


def main():
    accelerator = Accelerator(cpu=True)
    set_seed(1234)

    train_dataloader = DataLoader(ObjectDataset(train=True), shuffle=True, batch_size=BATCH_SIZE)
    eval_dataloader = DataLoader(ObjectDataset(train=False), shuffle=False, batch_size=80)

    model = Localizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    max_train_steps = NUM_EPOCHS * len(train_dataloader)
    lr_scheduler = get_cosine_schedule_with_warmup(
        optimizer, num_warmup_steps=int(WARMUP_RATIO * max_train_steps), num_training_steps=max_train_steps
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    best_error = math.inf
    output = os.path.join(tempfile.mkdtemp(), "localizer.pt")
    for epoch in range(NUM_EPOCHS):
        model.train()
        total_loss = 0.0
        for step, batch in enumerate(train_dataloader):
            center, width = model(batch["pixel_values"])
            loss = F.smooth_l1_loss(center, batch["center"]) + F.smooth_l1_loss(width, batch["width"])
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            total_loss += loss.detach().item()

        center_error, width_error = evaluate(accelerator, model, eval_dataloader)
        accelerator.print(
            f"epoch {epoch}: train_loss {total_loss / len(train_dataloader):.4f} "
            f"center {center_error:.2f} px, width {width_error:.2f} px"
        )
        if center_error < best_error:
            best_error = center_error
            accelerator.save(accelerator.unwrap_model(model).state_dict(), output)
    accelerator.print(f"best center error {best_error:.2f} px, saved to {output}")


if __name__ == "__main__":
    main()
