"""One object per image: class and normalized (cx, cy, w, h) box, in the manner of DETR's heads and criterion."""

import copy
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class Config:
    lr: float = 2e-3
    lr_backbone: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 32
    epochs: int = 14
    lr_drop: int = 10
    ema_decay: float = 0.95
    train_images: int = 800
    val_images: int = 200


def box_cxcywh_to_xyxy(x):
    x_c, y_c, w, h = x.unbind(-1)
    return torch.stack([x_c - 0.5 * w, y_c - 0.5 * h, x_c + 0.5 * w, y_c + 0.5 * h], dim=-1)


def box_xyxy_to_cxcywh(x):
    x0, y0, x1, y1 = x.unbind(-1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=-1)


def paired_iou(a, b):
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    wh = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh[:, 0] * wh[:, 1]
    union = area_a + area_b - inter
    iou = inter / (union + 1e-7)
    hull = (torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    return iou, iou - (hull - union) / (hull + 1e-7)


class ShapeBoxes(Dataset):
    def __init__(self, image_set, cfg):
        count = cfg.train_images if image_set == "train" else cfg.val_images
        self.shapes = Shapes(train=image_set == "train", count=count, size=24)
        self.hflip = image_set == "train"

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        img, label = self.shapes[idx]
        boxes = box_xyxy_to_cxcywh(self.shapes.boxes[idx])
        if self.hflip and random.random() < 0.5:
            img = img.flip(-1)
            boxes[0] = 1 - boxes[0]
        return (img - 0.5) / 0.2, {"labels": torch.tensor(label), "boxes": boxes}


class Detector(nn.Module):
    def __init__(self, num_classes, hidden_dim=96):
        super().__init__()

        def block(cin, cout):
            return [nn.Conv2d(cin, cout, 3, padding=1), nn.GroupNorm(4, cout), nn.ReLU(), nn.MaxPool2d(2)]

        self.backbone = nn.Sequential(*block(3, 16), *block(16, 32), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        self.input_proj = nn.Linear(32 * 6 * 6, hidden_dim)
        self.class_embed = nn.Linear(hidden_dim, num_classes)
        self.bbox_embed = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 4))

    def forward(self, samples):
        hs = F.relu(self.input_proj(self.backbone(samples).flatten(1)))
        return {"pred_logits": self.class_embed(hs), "pred_boxes": self.bbox_embed(hs).sigmoid()}


class Criterion(nn.Module):
    def __init__(self, weight_dict):
        super().__init__()
        self.weight_dict = weight_dict

    def forward(self, outputs, targets):
        src, tgt = outputs["pred_boxes"], targets["boxes"]
        _, giou = paired_iou(box_cxcywh_to_xyxy(src), box_cxcywh_to_xyxy(tgt))
        return {
            "loss_ce": F.cross_entropy(outputs["pred_logits"], targets["labels"]),
            "loss_bbox": F.l1_loss(src, tgt, reduction="none").sum(1).mean(),
            "loss_giou": (1 - giou).mean(),
        }


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_p, p in zip(self.module.parameters(), model.parameters()):
            ema_p.lerp_(p, 1 - self.decay)


def train_one_epoch(model, criterion, loader, optimizer, ema, lr_scheduler):
    model.train()
    total = 0.0
    for samples, targets in loader:
        loss_dict = criterion(model(samples), targets)
        losses = sum(loss_dict[k] * criterion.weight_dict[k] for k in loss_dict)
        optimizer.zero_grad()
        losses.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        ema.update(model)
        total += losses.item()
    lr_scheduler.step()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct, iou_sum, count = 0, 0.0, 0
    for samples, targets in loader:
        out = model(samples)
        iou, _ = paired_iou(box_cxcywh_to_xyxy(out["pred_boxes"]), box_cxcywh_to_xyxy(targets["boxes"]))
        correct += (out["pred_logits"].argmax(-1) == targets["labels"]).sum().item()
        iou_sum += iou.sum().item()
        count += len(samples)
    return correct / count, iou_sum / count


def main(cfg=Config()):
    random.seed(42)
    torch.manual_seed(42)
    model = Detector(num_classes=len(NAMES))
    criterion = Criterion({"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0})
    ema = ModelEma(model, cfg.ema_decay)
    param_dicts = [
        {"params": [p for n, p in model.named_parameters() if "backbone" not in n]},
        {"params": [p for n, p in model.named_parameters() if "backbone" in n], "lr": cfg.lr_backbone},
    ]
    optimizer = torch.optim.AdamW(param_dicts, lr=cfg.lr, weight_decay=cfg.weight_decay)
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, cfg.lr_drop)
    train_loader = DataLoader(ShapeBoxes("train", cfg), cfg.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(ShapeBoxes("val", cfg), cfg.batch_size)
    for epoch in range(cfg.epochs):
        loss = train_one_epoch(model, criterion, train_loader, optimizer, ema, lr_scheduler)
        acc, iou = evaluate(ema.module, val_loader)
        print(f"Epoch [{epoch}] loss {loss:.4f}  class acc {acc:.3f}  mean IoU {iou:.3f}")


if __name__ == "__main__":
    main()
