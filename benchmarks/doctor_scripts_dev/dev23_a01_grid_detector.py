"""minidet: an anchor-free detector of colored shapes, built from a config by registries.

Every cell of an 8 x 8 grid predicts whether the center of an object lies in it, where the box is, and its class.
"""

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, shape_mask

CLASSES = ("square", "disc", "cross")

cfg = dict(
    seed=3,
    epochs=22,
    batch_size=32,
    model=dict(type="GridDetector", widths=(16, 24, 32, 32, 32), strides=(1, 2, 2, 1, 1), num_classes=len(CLASSES)),
    train=dict(type="ShapeScenes", count=1400, size=32, seed=1, train=True),
    val=dict(type="ShapeScenes", count=200, size=32, seed=2, train=False),
    test=dict(type="ShapeScenes", count=200, size=32, seed=3, train=False),
    optimizer=dict(lr=4e-3, weight_decay=1e-3),
    max_norm=10.0,
    score_threshold=0.4,
)


class Registry(dict):
    def register(self, cls):
        self[cls.__name__] = cls
        return cls

    def build(self, options):
        options = dict(options)
        return self[options.pop("type")](**options)


DATASETS, MODELS = Registry(), Registry()


def draw_scene(rng, size):
    image = np.full((size, size, 3), 0.5, np.float32)
    boxes, labels = [], []
    for _ in range(int(rng.integers(1, 4))):
        for _ in range(20):
            width = int(rng.integers(7, 13))
            top, left = rng.integers(0, size - width + 1, 2).tolist()
            box = [left, top, left + width, top + width]
            if all(box[2] + 1 < b[0] or b[2] + 1 < box[0] or box[3] + 1 < b[1] or b[3] + 1 < box[1] for b in boxes):
                break
        else:
            continue
        label = int(rng.integers(len(CLASSES)))
        color = list(COLORS.values())[int(rng.integers(len(COLORS)))]
        image[shape_mask(CLASSES[label], size, top, left, width).numpy()] = color
        boxes.append(box)
        labels.append(label)
    image = image + rng.normal(0, 0.06, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), np.array(boxes, np.float32), np.array(labels)


@DATASETS.register
class ShapeScenes(Dataset):
    def __init__(self, count, size, seed, train):
        rng = np.random.default_rng(seed)
        self.size, self.train = size, train
        self.scenes = [draw_scene(rng, size) for _ in range(count)]

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        image, boxes, labels = self.scenes[index]
        boxes = boxes.copy()
        if self.train and random.random() < 0.5:
            image = image[:, ::-1].copy()
            boxes[:, [0, 2]] = self.size - boxes[:, [2, 0]]
        image = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels)}
        return (image - 0.5) / 0.25, target


def collate(batch):
    images, targets = zip(*batch)
    return torch.stack(images), list(targets)


@MODELS.register
class GridDetector(nn.Module):
    stride = 4

    def __init__(self, widths, strides, num_classes):
        super().__init__()
        blocks, channels = [], 3
        for width, stride in zip(widths, strides):
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
                )
            )
            channels = width
        self.backbone = nn.Sequential(*blocks)
        self.head = nn.Conv2d(channels, 1 + 4 + num_classes, 1)
        self.head.bias.data[0] = -3.0  # few cells hold a center

    def forward(self, x):
        x = self.backbone(x)
        return self.head(x).permute(0, 2, 3, 1)

    def loss(self, out, targets):
        heat = torch.zeros(out.shape[:3])
        box = torch.zeros(*out.shape[:3], 4)
        label = torch.zeros(out.shape[:3], dtype=torch.long)
        for i, target in enumerate(targets):
            low, high = target["boxes"][:, :2], target["boxes"][:, 2:]
            centers = (low + high) / 2 / self.stride
            cells = centers.long().clamp(max=out.shape[1] - 1)
            x, y = cells[:, 0], cells[:, 1]
            heat[i, y, x] = 1.0
            box[i, y, x] = torch.cat([centers - cells, torch.log((high - low) / self.stride)], 1)
            label[i, y, x] = target["labels"]
        pos = heat > 0
        count = pos.sum()
        raw = out[pos]
        objectness = F.binary_cross_entropy_with_logits(out[..., 0], heat, reduction="sum") / count
        boxes = F.smooth_l1_loss(torch.cat([raw[:, 1:3].sigmoid(), raw[:, 3:5]], 1), box[pos], beta=0.1)
        classes = F.cross_entropy(raw[:, 5:], label[pos])
        return objectness + 4.0 * boxes + classes

    @torch.no_grad()
    def predict(self, images, threshold):
        out = self(images)
        score = out[..., 0].sigmoid()
        peak = F.max_pool2d(score[:, None], 3, 1, 1)[:, 0] == score
        keep = peak & (score > threshold)
        results = []
        for i in range(len(images)):
            y, x = keep[i].nonzero(as_tuple=True)
            raw = out[i, y, x]
            centers = (torch.stack([x, y], 1) + raw[:, 1:3].sigmoid()) * self.stride
            sizes = raw[:, 3:5].exp() * self.stride
            results.append(
                {
                    "boxes": torch.cat([centers - sizes / 2, centers + sizes / 2], 1),
                    "scores": score[i, y, x],
                    "labels": raw[:, 5:].argmax(1),
                }
            )
        return results


def box_iou(a, b):
    low = torch.max(a[:, None, :2], b[None, :, :2])
    high = torch.min(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return inter / (area_a[:, None] + area_b[None] - inter)


def count_hits(found, target):
    iou = box_iou(found["boxes"], target["boxes"])
    free = torch.ones(len(target["boxes"]), dtype=torch.bool)
    hits = 0
    for k in found["scores"].argsort(descending=True).tolist():
        row = iou[k] * free * (target["labels"] == found["labels"][k])
        best = int(row.argmax())
        if row[best] >= 0.5:
            hits += 1
            free[best] = False
    return hits


class Runner:
    def __init__(self, cfg):
        random.seed(cfg["seed"])
        torch.manual_seed(cfg["seed"])
        self.cfg = cfg
        self.model = MODELS.build(cfg["model"])
        self.train_loader = DataLoader(
            DATASETS.build(cfg["train"]), batch_size=cfg["batch_size"], shuffle=True, collate_fn=collate
        )
        self.val_loader = DataLoader(DATASETS.build(cfg["val"]), batch_size=50, collate_fn=collate)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), **cfg["optimizer"])
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=cfg["optimizer"]["lr"], total_steps=cfg["epochs"] * len(self.train_loader)
        )
        self.best_f1, self.best_state = -1.0, None

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for images, targets in self.train_loader:
            loss = self.model.loss(self.model(images), targets)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg["max_norm"])
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
        return total / len(self.train_loader)

    def evaluate(self, loader):
        self.model.eval()
        hits = found = wanted = 0
        for images, targets in loader:
            for result, target in zip(self.model.predict(images, self.cfg["score_threshold"]), targets):
                hits += count_hits(result, target)
                found += len(result["boxes"])
                wanted += len(target["boxes"])
        return 2 * hits / (found + wanted)

    def run(self):
        for epoch in range(self.cfg["epochs"]):
            loss = self.train_epoch()
            f1 = self.evaluate(self.val_loader)
            print(f"epoch {epoch + 1:2d}  loss {loss:.3f}  val F1@0.5 {f1:.3f}")
            if f1 > self.best_f1:
                self.best_f1, self.best_state = f1, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(self.best_state)
        test_loader = DataLoader(DATASETS.build(self.cfg["test"]), batch_size=50, collate_fn=collate)
        print(f"test F1@0.5 of the kept epoch: {self.evaluate(test_loader):.3f}")


if __name__ == "__main__":
    Runner(cfg).run()
