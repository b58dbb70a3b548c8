"""One-stage detector on a 4 x 4 grid: objectness, box and class per cell, in the manner of YOLO v1."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class Config:
    S: int = 4
    C: int = len(NAMES)
    image_size: int = 32
    batch_size: int = 20
    epochs: int = 20
    lr: float = 2e-3
    lambda_coord: float = 5.0
    lambda_noobj: float = 0.5
    lambda_class: float = 1.0
    train_count: int = 800
    val_count: int = 160


cfg = Config()


def hflip(image, box):
    x1, y1, x2, y2 = box.unbind()
    return image.flip(-1), torch.stack([1 - x2, y1, 1 - x1, y2])


class GridDataset(Dataset):
    """Yields an image and a target of S x S x (5 + C): objectness, x, y in the cell, w, h of the image, one-hot class."""

    def __init__(self, train):
        self.shapes = Shapes(train=train, count=cfg.train_count if train else cfg.val_count, size=cfg.image_size)
        self.train = train

    def __len__(self):
        return len(self.shapes)

    def encode(self, box, label):
        target = torch.zeros(cfg.S, cfg.S, 5 + cfg.C)
        cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        w, h = box[2] - box[0], box[3] - box[1]
        col, row = min(int(cx * cfg.S), cfg.S - 1), min(int(cy * cfg.S), cfg.S - 1)
        target[row, col, 0] = 1.0
        target[row, col, 1:5] = torch.stack([cx * cfg.S - col, cy * cfg.S - row, w, h])
        target[row, col, 5 + label] = 1.0
        return target

    def __getitem__(self, index):
        image, label = self.shapes[index]
        box = self.shapes.boxes[index]
        if self.train and torch.rand(()) < 0.5:
            image, box = hflip(image, box)
        return (image - 0.5) / 0.25, self.encode(box, label), box, label


def block(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1))


class GridDetector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(block(3, 16), block(16, 32, 2), block(32, 32), block(32, 64, 2), block(64, 64, 2), block(64, 64))
        self.head = nn.Conv2d(64, 5 + cfg.C, 1)

    def forward(self, x):
        out = self.head(self.backbone(x)).permute(0, 2, 3, 1)
        return out[..., 0], out[..., 1:5].sigmoid(), out[..., 5:]


def detection_loss(outputs, target):
    obj_logit, box, cls_logit = outputs
    obj = target[..., 0] > 0
    obj_bce = F.binary_cross_entropy_with_logits(obj_logit, target[..., 0], reduction="none")
    n = obj.sum().clamp(min=1)
    loss_obj = obj_bce[obj].sum() / n
    loss_noobj = obj_bce[~obj].sum() / n
    loss_box = F.mse_loss(box[obj], target[..., 1:5][obj], reduction="sum") / n
    loss_cls = F.cross_entropy(cls_logit[obj], target[..., 5:][obj].argmax(-1), reduction="sum") / n
    total = loss_obj + cfg.lambda_noobj * loss_noobj + cfg.lambda_coord * loss_box + cfg.lambda_class * loss_cls
    return total, {"obj": loss_obj.item(), "noobj": loss_noobj.item(), "box": loss_box.item(), "cls": loss_cls.item()}


def decode(outputs):
    """The most confident cell of each image as a box (x1, y1, x2, y2), its score and its class."""
    obj_logit, box, cls_logit = outputs
    B = obj_logit.shape[0]
    score, cell = obj_logit.sigmoid().reshape(B, -1).max(1)
    row, col = cell // cfg.S, cell % cfg.S
    index = torch.arange(B)
    x, y, w, h = box.reshape(B, -1, 4)[index, cell].unbind(1)
    cx, cy = (x + col) / cfg.S, (y + row) / cfg.S
    boxes = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
    return boxes, score, cls_logit.reshape(B, -1, cfg.C)[index, cell].argmax(1)


def box_iou(a, b):
    lt, rb = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (rb - lt).clamp(min=0).prod(1)
    area = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1)
    return inter / (area - inter).clamp(min=1e-6)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    ious, hits = [], []
    for image, _, box, label in loader:
        boxes, score, pred = decode(model(image))
        iou = box_iou(boxes, box)
        ious.append(iou)
        hits.append((iou > 0.5) & (pred == label))
    return torch.cat(ious).mean().item(), torch.cat(hits).float().mean().item()


def main():
    torch.manual_seed(5)
    train_loader = DataLoader(GridDataset(True), cfg.batch_size, shuffle=True)
    val_loader = DataLoader(GridDataset(False), cfg.batch_size * 2)
    model = GridDetector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(cfg.epochs * 0.6), int(cfg.epochs * 0.85)], 0.2)
    for epoch in range(cfg.epochs):
        model.train()
        for image, target, _, _ in train_loader:
            loss, parts = detection_loss(model(image), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        iou, recall = validate(model, val_loader)
        detail = " ".join(f"{k} {v:.3f}" for k, v in parts.items())
        print(f"[{epoch + 1:02d}/{cfg.epochs}] loss {loss.item():.3f} ({detail})  mIoU {iou:.3f}  recall@0.5 {recall:.3f}")


if __name__ == "__main__":
    main()
