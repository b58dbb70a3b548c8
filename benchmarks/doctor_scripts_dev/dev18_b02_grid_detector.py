"""A one-stage detector on a grid: each cell says whether an object's center lies in it, its box and its class."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

KINDS = ("square", "disc", "cross")
SIZE, STRIDE, GRID = 48, 8, 6
MEAN, STD = 0.45, 0.2


@dataclass
class Config:
    epochs: int = 9
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-4
    score_threshold: float = 0.5
    nms_iou: float = 0.4


def draw_scene(generator):
    """One to three shapes that do not overlap; boxes as x1, y1, x2, y2 in pixels."""
    image = 0.4 + 0.05 * torch.randn(3, SIZE, SIZE, generator=generator)
    free = torch.ones(SIZE, SIZE, dtype=torch.bool)
    boxes, labels = [], []
    for _ in range(3):
        width = int(torch.randint(10, 19, (1,), generator=generator))
        top, left = torch.randint(0, SIZE - width + 1, (2,), generator=generator).tolist()
        if not free[top : top + width, left : left + width].all():
            continue
        label = int(torch.randint(0, 3, (1,), generator=generator))
        image[:, shape_mask(KINDS[label], SIZE, top, left, width)] = 0.6 + 0.4 * torch.rand(3, 1, generator=generator)
        free[top : top + width, left : left + width] = False
        boxes.append([left, top, left + width, top + width])
        labels.append(label)
    return (image.clamp(0, 1) * 255).to(torch.uint8), torch.tensor(boxes).float(), torch.tensor(labels)


class Scenes(Dataset):
    def __init__(self, count, seed, train):
        generator = torch.Generator().manual_seed(seed)
        self.scenes, self.train = [draw_scene(generator) for _ in range(count)], train

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        image, boxes, labels = self.scenes[index]
        image, boxes = image.float() / 255, boxes.clone()
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
            boxes[:, [0, 2]] = SIZE - boxes[:, [2, 0]]
        image = (image - MEAN) / STD
        return image, self.encode(boxes, labels), index

    @staticmethod
    def encode(boxes, labels):
        target = torch.zeros(6, GRID, GRID)  # object, offset x, offset y, log width, log height, class
        center = (boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE
        col, row = center.long().unbind(1)
        target[0, row, col] = 1
        target[1:3, row, col] = (center - center.floor()).T
        target[3:5, row, col] = ((boxes[:, 2:] - boxes[:, :2]) / STRIDE).log().T
        target[5, row, col] = labels.float()
        return target


def block(a, b, stride):
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


class GridDetector(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.backbone = nn.Sequential(block(3, width, 2), block(width, 2 * width, 2), block(2 * width, 3 * width, 2))
        self.neck = nn.Sequential(block(3 * width, 3 * width, 1), block(3 * width, 3 * width, 1))
        self.head = nn.Conv2d(3 * width, 5 + len(KINDS), 1)

    def forward(self, x):
        return self.head(self.neck(self.backbone(x)))


def iou(box, others):
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    return overlap / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - overlap)


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        self.train_set, self.val_set = Scenes(1000, seed=1, train=True), Scenes(300, seed=2, train=False)
        self.train_loader = DataLoader(self.train_set, cfg.batch_size, shuffle=True)
        self.val_loader = DataLoader(self.val_set, 50)
        self.model = GridDetector()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [6, 8], gamma=0.1)

    def criterion(self, pred, target):
        positive = target[:, 0] > 0
        objectness = F.binary_cross_entropy_with_logits(pred[:, 0], target[:, 0])
        pred, target = pred.permute(0, 2, 3, 1)[positive], target.permute(0, 2, 3, 1)[positive]
        box = F.l1_loss(pred[:, 1:3].sigmoid(), target[:, 1:3]) + F.l1_loss(pred[:, 3:5], target[:, 3:5])
        return 5 * objectness + 2 * box + F.cross_entropy(pred[:, 5:], target[:, 5].long())

    def train_epoch(self):
        self.model.train()
        losses = []
        for images, targets, _ in self.train_loader:
            loss = self.criterion(self.model(images), targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    def decode(self, pred):
        scores = pred[0].sigmoid()
        row, col = torch.nonzero(scores > self.cfg.score_threshold, as_tuple=True)
        cells = pred[:, row, col].T
        center = (cells[:, 1:3].sigmoid() + torch.stack([col, row], 1)) * STRIDE
        half = cells[:, 3:5].exp() * STRIDE / 2
        boxes, labels = torch.cat([center - half, center + half], 1), cells[:, 5:].argmax(1)
        kept = []
        for i in scores[row, col].argsort(descending=True).tolist():
            if not kept or iou(boxes[i], boxes[kept]).max() < self.cfg.nms_iou:
                kept.append(i)
        return boxes[kept], labels[kept]

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        hits = found = present = 0
        for images, _, indices in self.val_loader:
            for pred, index in zip(self.model(images), indices.tolist()):
                _, true_boxes, true_labels = self.val_set.scenes[index]
                boxes, labels = self.decode(pred)
                taken = torch.zeros(len(true_boxes), dtype=torch.bool)
                for box, label in zip(boxes, labels):
                    overlap = iou(box, true_boxes).masked_fill(taken | (true_labels != label), 0)
                    if overlap.max() >= 0.5:
                        taken[overlap.argmax()] = True
                hits, found, present = hits + int(taken.sum()), found + len(boxes), present + len(true_boxes)
        return hits / max(found, 1), hits / present, 2 * hits / (found + present)

    def fit(self):
        for epoch in range(1, self.cfg.epochs + 1):
            train_loss = self.train_epoch()
            self.scheduler.step()
            precision, recall, f1 = self.evaluate()
            print(f"[{epoch:2d}] loss {train_loss:.3f}  precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}")
        return f1


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"final F1 at IoU 0.5: {Trainer(Config()).fit():.3f}")
