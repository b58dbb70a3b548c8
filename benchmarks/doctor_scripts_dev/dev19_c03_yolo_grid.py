"""A one-scale YOLO from scratch: a 6x6 grid over 48x48 scenes with one to three shapes, CIoU + objectness + classes."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import COLORS, shape_mask

KINDS = ("square", "disc", "cross")


@dataclass
class Config:
    image: int = 48
    grid: int = 6
    classes: int = 3
    batch: int = 32
    epochs: int = 24
    lr: float = 2e-3
    warmup: int = 60
    box_gain: float = 2.0
    obj_gain: float = 4.0
    cls_gain: float = 1.0


def make_scenes(count, cfg, seed):
    """Images and, for each, a tensor of rows (class, center x, center y, width, height), in units of the image."""
    g = torch.Generator().manual_seed(seed)
    images, labels = [], []
    for _ in range(count):
        image = torch.full((3, cfg.image, cfg.image), 0.5)
        taken, rows = torch.zeros(cfg.image, cfg.image, dtype=torch.bool), []
        for _ in range(int(torch.randint(1, 4, (1,), generator=g))):
            for _attempt in range(20):
                kind, w = int(torch.randint(0, 3, (1,), generator=g)), int(torch.randint(9, 19, (1,), generator=g))
                top, left = torch.randint(0, cfg.image - w + 1, (2,), generator=g).tolist()
                if not taken[top : top + w, left : left + w].any():
                    break
            else:
                continue
            taken[top : top + w, left : left + w] = True
            color = list(COLORS.values())[int(torch.randint(0, 2, (1,), generator=g))]
            image[:, shape_mask(KINDS[kind], cfg.image, top, left, w)] = torch.tensor(color)[:, None]
            rows.append([kind, (left + w / 2) / cfg.image, (top + w / 2) / cfg.image, w / cfg.image, w / cfg.image])
        images.append((image + 0.06 * torch.randn(image.shape, generator=g)).clamp(0, 1))
        labels.append(torch.tensor(rows))
    return torch.stack(images), labels


def conv(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.SiLU(inplace=True))


class TinyYolo(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.backbone = nn.Sequential(conv(3, 12), conv(12, 24, 2), conv(24, 24), conv(24, 48, 2), conv(48, 48), conv(48, 64, 2), conv(64, 64))
        self.head = nn.Conv2d(64, 5 + cfg.classes, 1)
        nn.init.constant_(self.head.bias[4], -math.log(0.95 / 0.05))  # objects are rare: begin with 5 %
        ys, xs = torch.meshgrid(torch.arange(cfg.grid), torch.arange(cfg.grid), indexing="ij")
        self.register_buffer("offset", torch.stack([xs, ys], -1).float())

    def forward(self, x):
        out = self.head(self.backbone(x)).permute(0, 2, 3, 1)
        center = (out[..., :2].sigmoid() * 2 - 0.5 + self.offset) / self.cfg.grid
        size = (out[..., 2:4].sigmoid() * 2) ** 2 * 0.25
        return torch.cat([center, size], -1), out[..., 4], out[..., 5:]


def corners(box):
    return torch.cat([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def iou_terms(a, b, eps=1e-7):
    a, b = corners(a), corners(b)
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    return inter / (union + eps), hull


def ciou(a, b, eps=1e-7):
    iou, hull = iou_terms(a, b)
    distance = ((a[..., :2] - b[..., :2]) ** 2).sum(-1) / ((hull**2).sum(-1) + eps)
    v = 4 / math.pi**2 * (torch.atan(b[..., 2] / (b[..., 3] + eps)) - torch.atan(a[..., 2] / (a[..., 3] + eps))) ** 2
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return iou - distance - alpha * v


def assign(labels, cfg):
    batch = torch.cat([torch.full((len(rows),), i) for i, rows in enumerate(labels)])
    rows = torch.cat(labels)
    cell = (rows[:, 1:3] * cfg.grid).long().clamp(max=cfg.grid - 1)
    return batch, cell[:, 1], cell[:, 0], rows[:, 1:], rows[:, 0].long()


def yolo_loss(pred, labels, cfg):
    boxes, objectness, classes = pred
    b, gy, gx, target_box, target_class = assign(labels, cfg)
    similarity = ciou(boxes[b, gy, gx], target_box)
    target_obj = torch.zeros_like(objectness)
    target_obj[b, gy, gx] = similarity.detach().clamp(min=0)  # as in YOLOv5: how good the box is
    box = (1 - similarity).mean()
    obj = F.binary_cross_entropy_with_logits(objectness, target_obj)
    cls = F.cross_entropy(classes[b, gy, gx], target_class)
    return cfg.box_gain * box + cfg.obj_gain * obj + cfg.cls_gain * cls, (box.item(), obj.item(), cls.item())


def nms(boxes, scores, limit=0.45):
    order, keep = scores.argsort(descending=True), []
    while order.numel():
        best, order = order[0], order[1:]
        keep.append(int(best))
        order = order[iou_terms(boxes[best].expand(len(order), 4), boxes[order])[0] < limit]
    return keep


@torch.no_grad()
def f1_at_50(model, images, labels, cfg, threshold=0.4):
    model.eval()
    tp = fp = fn = 0
    for start in range(0, len(images), 50):
        boxes, objectness, classes = model(images[start : start + 50])
        score = (objectness.sigmoid() * classes.softmax(-1).amax(-1)).flatten(1)
        kind, boxes = classes.argmax(-1).flatten(1), boxes.flatten(1, 2)
        for i, rows in enumerate(labels[start : start + 50]):
            sure = score[i] > threshold
            box, cls = boxes[i][sure], kind[i][sure]
            keep, free = nms(box, score[i][sure]), set(range(len(rows)))
            for k in keep:
                overlap = iou_terms(box[k].expand(len(rows), 4), rows[:, 1:])[0]
                hits = [j for j in free if overlap[j] > 0.5 and rows[j, 0] == cls[k]]
                if hits:
                    free.remove(max(hits, key=lambda j: overlap[j]))
                    tp += 1
                else:
                    fp += 1
            fn += len(free)
    return 2 * tp / max(2 * tp + fp + fn, 1)


def main(cfg=Config()):
    torch.manual_seed(0)
    images, labels = make_scenes(900, cfg, seed=1)
    val_images, val_labels = make_scenes(150, cfg, seed=2)
    images, val_images = (images - 0.5) / 0.2, (val_images - 0.5) / 0.2
    model = TinyYolo(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=1e-3)
    per_epoch = len(images) // cfg.batch
    total = cfg.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: (s + 1) / cfg.warmup if s < cfg.warmup else 0.51 + 0.49 * math.cos(math.pi * (s - cfg.warmup) / (total - cfg.warmup))
    )
    for epoch in range(cfg.epochs):
        model.train()
        sums, order = torch.zeros(3), torch.randperm(len(images))
        for chunk in order[: per_epoch * cfg.batch].split(cfg.batch):
            batch, rows = images[chunk], [labels[i].clone() for i in chunk.tolist()]
            if torch.rand(()) < 0.5:  # mirror the batch and its boxes
                batch = batch.flip(3)
                for r in rows:
                    r[:, 1] = 1 - r[:, 1]
            loss, parts = yolo_loss(model(batch), rows, cfg)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            sums += torch.tensor(parts)
        box, obj, cls = (sums / per_epoch).tolist()
        print(f"epoch {epoch:2d} box {box:.3f} obj {obj:.3f} cls {cls:.3f} | val F1@0.5 {f1_at_50(model, val_images, val_labels, cfg):.3f}")


if __name__ == "__main__":
    main()
