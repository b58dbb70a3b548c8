"""Kind, color and corners of a shape with one network, written after the examples of Accelerate."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class ShapesWithCorners(Dataset):
    def __init__(self, split, mirror=False):
        self.shapes = Shapes(train=split == "train", size=24)
        self.mirror = mirror

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        image, label = self.shapes[idx]
        left, top, right, bottom = self.shapes.boxes[idx].tolist()
        if self.mirror and random.random() < 0.5:
            image = image.flip(-1)
            left, right = 1 - right, 1 - left
        return {
            "pixel_values": (image - 0.49) / 0.17,
            "kind": label % 3,
            "color": label // 3,
            "corners": torch.tensor([left, top, right, bottom]),
        }


class MultiTaskModel(nn.Module):
    def __init__(self, width=16, hidden=64):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Flatten(), nn.Linear(2 * width * 6 * 6, hidden), nn.ReLU(),
        )
        self.kind_head = nn.Linear(hidden, 3)
        self.color_head = nn.Linear(hidden, 2)
        self.corner_head = nn.Linear(hidden, 4)

    def forward(self, pixel_values, kind=None, color=None, corners=None):
        hidden = self.encoder(pixel_values)
        output = {
            "kind_logits": self.kind_head(hidden),
            "color_logits": self.color_head(hidden),
            "corners": self.corner_head(hidden),
        }
        if kind is not None:
            kind_loss = F.cross_entropy(output["kind_logits"], kind)
            color_loss = F.cross_entropy(output["color_logits"], color)
            corner_loss = F.smooth_l1_loss(output["corners"], corners, beta=0.1)
            output["loss"] = kind_loss + color_loss + 4.0 * corner_loss
        return output


def box_iou(a, b):
    width = (torch.minimum(a[:, 2], b[:, 2]) - torch.maximum(a[:, 0], b[:, 0])).clamp(min=0)
    height = (torch.minimum(a[:, 3], b[:, 3]) - torch.maximum(a[:, 1], b[:, 1])).clamp(min=0)
    inter = width * height
    area_a = (a[:, 2] - a[:, 0]).clamp(min=0) * (a[:, 3] - a[:, 1]).clamp(min=0)
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return inter / (area_a + area_b - inter)


def training_function(config):
    accelerator = Accelerator(cpu=True)
    set_seed(config["seed"])

    train_dataloader = DataLoader(ShapesWithCorners("train", mirror=True), shuffle=True,
                                  batch_size=config["batch_size"])
    eval_dataloader = DataLoader(ShapesWithCorners("validation"), shuffle=False, batch_size=80)

    model = MultiTaskModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-4)
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config["lr"], epochs=config["num_epochs"], steps_per_epoch=len(train_dataloader),
        pct_start=0.2)
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler)

    for epoch in range(config["num_epochs"]):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            outputs = model(**batch)
            loss = outputs["loss"]
            total_loss += loss.detach().float()
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()

        model.eval()
        kinds, colors, ious = [], [], []
        for batch in eval_dataloader:
            with torch.no_grad():
                outputs = model(batch["pixel_values"])
            kind, color, corners, refs = accelerator.gather_for_metrics((
                outputs["kind_logits"].argmax(dim=-1), outputs["color_logits"].argmax(dim=-1),
                outputs["corners"], (batch["kind"], batch["color"], batch["corners"])))
            kinds.append(kind == refs[0])
            colors.append(color == refs[1])
            ious.append(box_iou(corners, refs[2]))
        accelerator.print(
            f"epoch {epoch}: loss {total_loss.item() / len(train_dataloader):.4f}"
            f"  kind {100 * torch.cat(kinds).float().mean().item():.2f}"
            f"  color {100 * torch.cat(colors).float().mean().item():.2f}"
            f"  IoU {torch.cat(ious).mean().item():.3f}")


def main():
    config = {"lr": 3e-3, "num_epochs": 12, "seed": 42, "batch_size": 45}
    training_function(config)


if __name__ == "__main__":
    main()
