"""Accelerate: one network tells the shape and the color, and finds the box of a shape."""

from types import SimpleNamespace

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

config = SimpleNamespace(seed=9, epochs=18, batch_size=64, max_lr=4e-3, train_images=2200, valid_images=400, box_weight=10.0)


class ShapesWithBoxes(Dataset):
    def __init__(self, train, count):
        data = Shapes(train=train, count=count)
        self.images, self.boxes, self.augment = data.images, data.boxes, train
        self.colors = [target // 3 for target in data.targets]
        self.kinds = [target % 3 for target in data.targets]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, box = (self.images[i] - 0.5) / 0.2, self.boxes[i]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            left, top, right, bottom = box.unbind()
            box = torch.stack([1 - right, top, 1 - left, bottom])
        return {"image": image, "box": box, "color": self.colors[i], "kind": self.kinds[i]}


class MultiTaskNet(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in (24, 48, 64):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if width < 64 else []
            channels = width
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU())
        self.kind = nn.Linear(128, 3)
        self.color = nn.Linear(128, 2)
        self.box = nn.Linear(128, 4)

    def forward(self, image):
        features = self.trunk(image)
        return {"kind": self.kind(features), "color": self.color(features), "box": self.box(features).sigmoid()}


def compute_losses(outputs, batch):
    return {
        "kind": nn.functional.cross_entropy(outputs["kind"], batch["kind"]),
        "color": nn.functional.cross_entropy(outputs["color"], batch["color"]),
        "box": nn.functional.l1_loss(outputs["box"], batch["box"]),
    }


def box_iou(a, b):
    """IoU of each predicted box and the true box in the same row."""
    width = (torch.minimum(a[:, 2], b[:, 2]) - torch.maximum(a[:, 0], b[:, 0])).clamp(min=0)
    height = (torch.minimum(a[:, 3], b[:, 3]) - torch.maximum(a[:, 1], b[:, 1])).clamp(min=0)
    intersection = width * height
    area_a = (a[:, 2] - a[:, 0]).clamp(min=0) * (a[:, 3] - a[:, 1]).clamp(min=0)
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return intersection / (area_a + area_b - intersection)


def main():
    accelerator = Accelerator(cpu=True)
    set_seed(config.seed)
    train_loader = DataLoader(
        ShapesWithBoxes(True, config.train_images), batch_size=config.batch_size, shuffle=True, drop_last=True
    )
    valid_loader = DataLoader(ShapesWithBoxes(False, config.valid_images), batch_size=100)
    model = MultiTaskNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.max_lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config.max_lr, epochs=config.epochs, steps_per_epoch=len(train_loader), pct_start=0.2
    )
    model, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, valid_loader, scheduler
    )

    for epoch in range(config.epochs):
        model.train()
        sums, count = {"kind": 0.0, "color": 0.0, "box": 0.0}, 0
        for batch in train_loader:
            losses = compute_losses(model(batch["image"]), batch)
            loss = losses["kind"] + losses["color"] + config.box_weight * losses["box"]
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            for name, value in losses.items():
                sums[name] += value.item()
            count += 1

        model.eval()
        right_kind, right_color, ious = [], [], []
        for batch in valid_loader:
            with torch.no_grad():
                outputs = model(batch["image"])
            gathered = accelerator.gather_for_metrics(
                {
                    "kind": outputs["kind"].argmax(dim=-1) == batch["kind"],
                    "color": outputs["color"].argmax(dim=-1) == batch["color"],
                    "iou": box_iou(outputs["box"], batch["box"]),
                }
            )
            right_kind.append(gathered["kind"])
            right_color.append(gathered["color"])
            ious.append(gathered["iou"])
        accelerator.print(
            f"epoch {epoch:2d} losses "
            + " ".join(f"{name} {value / count:.4f}" for name, value in sums.items())
            + f" | kind {torch.cat(right_kind).float().mean():.4f} color {torch.cat(right_color).float().mean():.4f}"
            + f" IoU {torch.cat(ious).mean():.4f}"
        )


if __name__ == "__main__":
    main()
