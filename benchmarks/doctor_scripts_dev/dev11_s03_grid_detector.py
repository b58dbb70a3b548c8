"""A small single-stage detector: three scales of anchors on one grid, EMA weights, warm-up, parameter groups."""

import copy
import math
import os
import random
import tempfile
from types import SimpleNamespace

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, shape_mask

CLASSES = ("square", "disc", "cross")
cfg = SimpleNamespace(
    img_size=48, stride=8, anchors=((9, 9), (14, 14), (20, 20)), epochs=24, batch_size=16, lr0=0.06, lrf=0.05,
    momentum=0.9, weight_decay=5e-4, warmup_iters=50, box=2.0, obj=1.0, cls=4.0, conf_thres=0.3, iou_thres=0.45,
    fliplr=0.5, ema_decay=0.999, ema_tau=200, seed=1,
)


class Scenes(Dataset):
    """One to three shapes on a gray ground; labels are rows of class, x, y, w, h in pixels."""

    def __init__(self, count, seed, augment=False):
        self.augment = augment
        self.images, self.labels = [], []
        rng = random.Random(seed)
        torch_rng = torch.Generator().manual_seed(seed)
        size = cfg.img_size
        for _ in range(count):
            image, taken, rows = torch.full((3, size, size), 0.5), torch.zeros(size, size, dtype=torch.bool), []
            for _ in range(rng.randint(1, 3)):
                kind, color, width = rng.randrange(3), rng.choice(list(COLORS)), rng.randint(8, 22)
                top, left = rng.randint(0, size - width), rng.randint(0, size - width)
                if taken[top : top + width, left : left + width].any():
                    continue
                taken[top : top + width, left : left + width] = True
                image[:, shape_mask(CLASSES[kind], size, top, left, width)] = torch.tensor(COLORS[color])[:, None]
                rows.append([kind, left + width / 2, top + width / 2, width, width])
            self.images.append((image + 0.05 * torch.randn(image.shape, generator=torch_rng)).clamp(0, 1))
            self.labels.append(torch.tensor(rows))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, labels = self.images[index], self.labels[index].clone()
        if self.augment and random.random() < cfg.fliplr:
            image = image.flip(-1)
            labels[:, 1] = cfg.img_size - labels[:, 1]
        return image, labels


def collate(batch):
    images, labels = zip(*batch)
    rows = [torch.cat([torch.full((len(l), 1), float(i)), l], 1) for i, l in enumerate(labels)]
    return torch.stack(images), torch.cat(rows)


def cbl(inside, outside, stride=1):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.SiLU())


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(cbl(3, 16, 2), cbl(16, 32, 2), cbl(32, 48), cbl(48, 64, 2), cbl(64, 64), cbl(64, 64))
        self.head = nn.Conv2d(64, len(cfg.anchors) * (5 + len(CLASSES)), 1)
        self.register_buffer("anchors", torch.tensor(cfg.anchors, dtype=torch.float32))
        with torch.no_grad():
            self.head.bias.view(len(cfg.anchors), -1)[:, 4] = -4.0

    def forward(self, x):
        n, _, h, w = (y := self.head(self.backbone(x))).shape
        return y.view(n, len(cfg.anchors), -1, h, w).permute(0, 1, 3, 4, 2)

    def decode(self, raw):
        """Raw predictions to x, y, w, h in pixels, objectness, class scores."""
        h, w = raw.shape[2:4]
        grid_y, grid_x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        x = (raw[..., 0].sigmoid() + grid_x) * cfg.stride
        y = (raw[..., 1].sigmoid() + grid_y) * cfg.stride
        wh = raw[..., 2:4].clamp(-3, 3).exp() * self.anchors[:, None, None, :]
        return torch.cat([x[..., None], y[..., None], wh, raw[..., 4:].sigmoid()], -1)


def box_iou(a, b):
    """Elementwise IoU of boxes x, y, w, h (broadcast)."""
    top_left = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    bottom_right = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    inter = (bottom_right - top_left).clamp(min=0).prod(-1)
    return inter / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - inter + 1e-7)


class ComputeLoss:
    def __init__(self, model):
        self.model = model
        self.bce = nn.BCEWithLogitsLoss()

    def __call__(self, raw, targets):
        decoded = self.model.decode(raw)
        image = targets[:, 0].long()
        column, row = (targets[:, 2] / cfg.stride).long(), (targets[:, 3] / cfg.stride).long()
        anchor = (targets[:, 4:5] - self.model.anchors[:, 0]).abs().argmin(1)
        chosen = (image, anchor, row, column)
        iou = box_iou(decoded[chosen][:, :4], targets[:, 2:6])
        objectness = torch.zeros(raw.shape[:-1])
        objectness[chosen] = 1.0
        kinds = torch.zeros(len(targets), len(CLASSES))
        kinds[torch.arange(len(targets)), targets[:, 1].long()] = 1.0
        shape = (raw[chosen][:, 2:4] - (targets[:, 4:6] / self.model.anchors[anchor]).log()).pow(2).mean()
        loss_box = (1 - iou).mean() + shape
        loss_obj = self.bce(raw[..., 4], objectness) * 10
        loss_cls = self.bce(raw[chosen][:, 5:], kinds)
        return cfg.box * loss_box + cfg.obj * loss_obj + cfg.cls * loss_cls


def non_max_suppression(prediction):
    rows = prediction.reshape(-1, prediction.shape[-1])
    rows = rows[rows[:, 4] > cfg.conf_thres]
    rows = rows[rows[:, 4].argsort(descending=True)]
    kept = []
    while len(rows):
        kept.append(rows[0])
        rows = rows[1:][box_iou(rows[0, :4], rows[1:, :4]) < cfg.iou_thres]
    return kept


@torch.no_grad()
def val(model, loader):
    """F1 of boxes at IoU 0.5 with the right class."""
    model.eval()
    hits = found = present = 0
    for images, targets in loader:
        for i, prediction in enumerate(model.decode(model(images))):
            truth = targets[targets[:, 0] == i]
            used = set()
            for row in non_max_suppression(prediction):
                found += 1
                overlap = box_iou(row[:4], truth[:, 2:6])
                best = int(overlap.argmax())
                if overlap[best] > 0.5 and best not in used and int(row[5:].argmax()) == int(truth[best, 1]):
                    used.add(best)
                    hits += 1
            present += len(truth)
    return 2 * hits / max(found + present, 1)


class ModelEMA:
    def __init__(self, model):
        self.ema = copy.deepcopy(model).eval()
        self.updates = 0
        for p in self.ema.parameters():
            p.requires_grad_(False)

    def update(self, model):
        self.updates += 1
        d = cfg.ema_decay * (1 - math.exp(-self.updates / cfg.ema_tau))
        state = model.state_dict()
        for key, value in self.ema.state_dict().items():
            if value.dtype.is_floating_point:
                value.mul_(d).add_(state[key].detach(), alpha=1 - d)


def smart_optimizer(model):
    decay, norms, biases = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                biases.append(parameter)
            elif isinstance(module, nn.BatchNorm2d):
                norms.append(parameter)
            else:
                decay.append(parameter)
    optimizer = torch.optim.SGD(biases, lr=cfg.lr0, momentum=cfg.momentum, nesterov=True)
    optimizer.add_param_group({"params": decay, "weight_decay": cfg.weight_decay})
    optimizer.add_param_group({"params": norms, "weight_decay": 0.0})
    return optimizer


def train():
    random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(Scenes(480, 5, augment=True), cfg.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(Scenes(100, 6), 50, collate_fn=collate)
    model = Detector()
    ema = ModelEMA(model)
    optimizer = smart_optimizer(model)
    total = cfg.epochs * len(train_loader)

    def one_cycle(step):
        warm = min(1.0, (step + 1) / cfg.warmup_iters)
        return warm * ((1 + math.cos(math.pi * step / total)) / 2 * (1 - cfg.lrf) + cfg.lrf)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, one_cycle)
    compute_loss = ComputeLoss(model)
    for epoch in range(cfg.epochs):
        model.train()
        mean_loss = 0.0
        for i, (images, targets) in enumerate(train_loader):
            loss = compute_loss(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
            optimizer.step()
            scheduler.step()
            ema.update(model)
            mean_loss = (mean_loss * i + loss.item()) / (i + 1)
        if epoch % 3 == 2 or epoch == cfg.epochs - 1:
            print(f"{epoch + 1}/{cfg.epochs}  loss {mean_loss:.4f}  F1@0.5 {val(ema.ema, val_loader):.3f}")
    with tempfile.TemporaryDirectory() as runs:
        torch.save({"ema": ema.ema.state_dict(), "updates": ema.updates}, os.path.join(runs, "last.pt"))


if __name__ == "__main__":
    train()
