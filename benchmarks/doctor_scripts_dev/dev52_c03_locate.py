r"""Single object localization: one box and one name for each image (in the manner of the detection references)."""
import random
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class ShapeLocalization(Dataset):
    def __init__(self, train, count, size=24):
        self.base = Shapes(train=train, count=count, size=size)
        self.train = train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, label = self.base[index]
        box = self.base.boxes[index].float()
        if self.train and random.random() < 0.5:
            image = image.flip(-1)
            box = torch.stack([1 - box[2], box[1], 1 - box[0], box[3]])
        return (image - 0.5) / 0.2, {"box": box, "label": torch.tensor(label)}


def collate_fn(batch):
    images, targets = zip(*batch)
    return torch.stack(images), {key: torch.stack([t[key] for t in targets]) for key in targets[0]}


class Localizer(nn.Module):
    def __init__(self, num_classes=6):
        super().__init__()
        layers, channels = [], 3
        for width, pool in ((16, True), (32, True), (48, False)):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            if pool:
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.backbone = nn.Sequential(*layers)
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(48 * 6 * 6, 128), nn.ReLU())
        self.cls_head = nn.Linear(128, num_classes)
        self.box_head = nn.Linear(128, 4)

    def forward(self, images):
        hidden = self.neck(self.backbone(images))
        center, extent = self.box_head(hidden).sigmoid().split(2, dim=1)
        return self.cls_head(hidden), torch.cat([center - extent / 2, center + extent / 2], dim=1)


def area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def overlap(pred, true):
    """IoU and generalized IoU of boxes in pairs."""
    low, high = torch.maximum(pred[:, :2], true[:, :2]), torch.minimum(pred[:, 2:], true[:, 2:])
    inter = (high - low).clamp(min=0).prod(dim=1)
    union = area(pred) + area(true) - inter
    iou = inter / union.clamp(min=1e-6)
    low, high = torch.minimum(pred[:, :2], true[:, :2]), torch.maximum(pred[:, 2:], true[:, 2:])
    hull = (high - low).prod(dim=1).clamp(min=1e-6)
    return iou, iou - (hull - union) / hull


def compute_losses(logits, boxes, target):
    _, giou = overlap(boxes, target["box"])
    return {
        "loss_cls": F.cross_entropy(logits, target["label"]),
        "loss_giou": (1 - giou).mean(),
        "loss_l1": 5 * F.l1_loss(boxes, target["box"]),
    }


def train_one_epoch(model, optimizer, lr_scheduler, data_loader, epoch):
    model.train()
    totals, start = {}, time.time()
    for images, target in data_loader:
        logits, boxes = model(images)
        loss_dict = compute_losses(logits, boxes, target)
        losses = sum(loss_dict.values())
        optimizer.zero_grad()
        losses.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        lr_scheduler.step()
        for name, value in loss_dict.items():
            totals[name] = totals.get(name, 0) + value.detach() / len(data_loader)
    summary = "  ".join(f"{name}: {float(value):.4f}" for name, value in totals.items())
    print(f"Epoch: [{epoch}]  {summary}  time: {time.time() - start:.2f}")


@torch.inference_mode()
def evaluate(model, data_loader):
    model.eval()
    ious, hits = [], []
    for images, target in data_loader:
        logits, boxes = model(images)
        ious.append(overlap(boxes, target["box"])[0])
        hits.append(logits.argmax(1) == target["label"])
    ious, hits = torch.cat(ious), torch.cat(hits)
    print(f"Test:  IoU {ious.mean():.3f}  AP50-like {(hits & (ious > 0.5)).float().mean():.3f}  Acc {hits.float().mean():.3f}")


def main():
    torch.manual_seed(0)
    random.seed(0)
    train_loader = DataLoader(
        ShapeLocalization(True, 900), batch_size=36, shuffle=True, collate_fn=collate_fn, drop_last=True
    )
    test_loader = DataLoader(ShapeLocalization(False, 200), batch_size=100, collate_fn=collate_fn)
    model = Localizer()
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 1e-2}, {"params": no_decay, "weight_decay": 0.0}], lr=2e-3
    )
    epochs = 15
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=epochs * len(train_loader), pct_start=0.2
    )
    for epoch in range(epochs):
        train_one_epoch(model, optimizer, lr_scheduler, train_loader, epoch)
        if epoch % 3 == 2:
            evaluate(model, test_loader)


if __name__ == "__main__":
    main()
