# One-object detector (class + box) in the style of torchvision's references/detection:
# engine functions, a metric logger, a dict of losses.
import math
import time
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


# ----------------------------------------------------------------------------- utils
class SmoothedValue:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def update(self, value, n=1):
        self.total += value * n
        self.count += n

    @property
    def global_avg(self):
        return self.total / max(self.count, 1)


class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(SmoothedValue)

    def update(self, n=1, **kwargs):
        for k, v in kwargs.items():
            self.meters[k].update(v, n)

    def __str__(self):
        return "  ".join(f"{k}: {m.global_avg:.4f}" for k, m in self.meters.items())


def box_cxcywh_to_xyxy(x):
    cx, cy, w, h = x.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)


def box_iou_pairs(a, b):
    """IoU and GIoU of box i of a with box i of b, both x1 y1 x2 y2."""
    inter_wh = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0)
    inter = inter_wh.prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inter
    hull = (torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])).prod(1)
    iou = inter / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


# ----------------------------------------------------------------------------- data
class ShapeDetection(Dataset):
    def __init__(self, train, count, size=24):
        self.base = Shapes(train=train, count=count, size=size)
        self.size = size

    def __len__(self):
        return len(self.base)

    def __getitem__(self, idx):
        image, label = self.base[idx]
        pixels = self.base.boxes[idx] * self.size
        target = {"labels": label, "boxes": pixels / self.size}
        return (image - 0.5) / 0.2, target


def collate_fn(batch):
    images, targets = zip(*batch)
    boxes = torch.stack([t["boxes"] for t in targets])
    labels = torch.tensor([t["labels"] for t in targets])
    return torch.stack(images), {"boxes": boxes, "labels": labels}


# ----------------------------------------------------------------------------- model
def conv_bn_relu(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class Detector(nn.Module):
    def __init__(self, num_classes, hidden=128):
        super().__init__()
        self.backbone = nn.Sequential(
            conv_bn_relu(3, 16), conv_bn_relu(16, 32, 2), conv_bn_relu(32, 48), conv_bn_relu(48, 48, 2), conv_bn_relu(48, 32, 2),
            nn.Flatten(), nn.Linear(32 * 3 * 3, hidden), nn.ReLU(inplace=True),
        )
        self.class_head = nn.Linear(hidden, num_classes)
        self.box_head = nn.Linear(hidden, 4)

    def forward(self, images):
        features = self.backbone(images)
        return {"logits": self.class_head(features), "boxes": box_cxcywh_to_xyxy(self.box_head(features).sigmoid())}


class SetCriterion(nn.Module):
    weight_dict = {"loss_ce": 1.0, "loss_giou": 2.0}

    def forward(self, outputs, targets):
        _, giou = box_iou_pairs(outputs["boxes"], targets["boxes"])
        return {"loss_ce": F.cross_entropy(outputs["logits"], targets["labels"]), "loss_giou": (1 - giou).mean()}


# ----------------------------------------------------------------------------- engine
def train_one_epoch(model, criterion, optimizer, data_loader, device, lr_scheduler):
    model.train()
    metric_logger = MetricLogger()
    for images, targets in data_loader:
        images = images.to(device)
        targets = {k: v.to(device) for k, v in targets.items()}
        loss_dict = criterion(model(images), targets)
        losses = sum(criterion.weight_dict[k] * v for k, v in loss_dict.items())
        if not math.isfinite(losses.item()):
            raise SystemExit(f"Loss is {losses.item()}, stopping training")
        optimizer.zero_grad()
        losses.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        lr_scheduler.step()
        metric_logger.update(len(images), loss=losses.item(), **{k: v.item() for k, v in loss_dict.items()})
    return metric_logger


@torch.inference_mode()
def evaluate(model, data_loader, device):
    model.eval()
    iou_sum, hits, correct, total = 0.0, 0, 0, 0
    for images, targets in data_loader:
        outputs = model(images.to(device))
        pred_labels = outputs["logits"].argmax(-1).cpu()
        iou, _ = box_iou_pairs(outputs["boxes"].cpu(), targets["boxes"])
        right = pred_labels == targets["labels"]
        correct += right.sum().item()
        hits += (right & (iou > 0.5)).sum().item()
        iou_sum += iou.sum().item()
        total += len(images)
    return {"mean_iou": iou_sum / total, "class_acc": correct / total, "det@0.5": hits / total}


def main(epochs=10, batch_size=32, lr=2e-3):
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train_loader = DataLoader(ShapeDetection(True, 2000), batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=collate_fn)
    val_loader = DataLoader(ShapeDetection(False, 260), batch_size=128, collate_fn=collate_fn)
    model = Detector(len(NAMES)).to(device)
    param_groups = [
        {"params": model.backbone.parameters()},
        {"params": list(model.class_head.parameters()) + list(model.box_head.parameters())},
    ]
    optimizer = torch.optim.AdamW(param_groups, lr=lr, weight_decay=1e-4)
    lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(train_loader))
    criterion = SetCriterion()
    start = time.time()
    for epoch in range(epochs):
        train_stats = train_one_epoch(model, criterion, optimizer, train_loader, device, lr_scheduler)
        stats = evaluate(model, val_loader, device)
        print(f"Epoch [{epoch}] {train_stats} | " + "  ".join(f"{k}: {v:.4f}" for k, v in stats.items()))
    print(f"Training time {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
