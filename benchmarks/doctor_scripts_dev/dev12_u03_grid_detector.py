"""One-stage detector on a 4x4 grid: objectness, box and class per cell; EMA weights are validated."""
import argparse
import math
import tempfile
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import COLORS, shape_mask

KINDS = ["square", "disc", "cross"]
HYP = dict(lr0=0.04, lrf=0.05, momentum=0.9, weight_decay=5e-4, warmup_epochs=2, box=4.0, obj=1.0, cls=0.5, fliplr=0.5)


class ShapeScenes(Dataset):
    """One to three shapes an image; labels are rows of (class, x1, y1, x2, y2), between 0 and 1."""

    def __init__(self, count, img_size=32, grid=4, seed=0, augment=False):
        self.augment = augment
        self.imgs, self.labels = [], []
        g = torch.Generator().manual_seed(seed)
        colors = list(COLORS.values())
        for _ in range(count):
            img = torch.full((3, img_size, img_size), 0.5)
            taken, used, rows = torch.zeros(img_size, img_size), set(), []
            for _ in range(int(torch.randint(1, 4, (1,), generator=g))):
                width = int(torch.randint(8, 14, (1,), generator=g))
                top, left = torch.randint(0, img_size - width + 1, (2,), generator=g).tolist()
                k = int(torch.randint(0, 3, (1,), generator=g))
                cell = (int((top + width / 2) * grid / img_size), int((left + width / 2) * grid / img_size))
                if cell in used or taken[top : top + width, left : left + width].any():
                    continue
                color = colors[int(torch.randint(0, len(colors), (1,), generator=g))]
                img[:, shape_mask(KINDS[k], img_size, top, left, width)] = torch.tensor(color)[:, None]
                taken[top : top + width, left : left + width] = 1
                used.add(cell)
                rows.append([k, left / img_size, top / img_size, (left + width) / img_size, (top + width) / img_size])
            self.imgs.append((img + 0.06 * torch.randn(img.shape, generator=g)).clamp(0, 1))
            self.labels.append(torch.tensor(rows))

    def __len__(self):
        return len(self.imgs)

    def __getitem__(self, i):
        img, labels = self.imgs[i], self.labels[i].clone()
        if self.augment and torch.rand(()) < HYP["fliplr"]:
            img = img.flip(-1)
            labels[:, [1, 3]] = 1 - labels[:, [3, 1]]
        return img, labels

    @staticmethod
    def collate_fn(batch):
        imgs, labels = zip(*batch)
        rows = [torch.cat([torch.full((len(lab), 1), float(i)), lab], 1) for i, lab in enumerate(labels)]
        return torch.stack(imgs), torch.cat(rows)


def conv(cin, cout, s=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, s, 1, bias=False), nn.BatchNorm2d(cout), nn.SiLU())


class Detector(nn.Module):
    def __init__(self, nc=3, width=12):
        super().__init__()
        self.nc = nc
        self.backbone = nn.Sequential(conv(3, width, 2), conv(width, 2 * width, 2), conv(2 * width, 4 * width, 2))
        self.neck = conv(4 * width, 4 * width)
        self.head = nn.Conv2d(4 * width, 5 + nc, 1)
        nn.init.constant_(self.head.bias[4], -2.0)  # objects are rare

    def forward(self, x):
        p = self.head(self.neck(self.backbone(x)))  # (batch, 5 + nc, rows, columns)
        return p.permute(0, 2, 3, 1)


class ModelEMA:
    def __init__(self, model, decay=0.98, tau=50):
        self.ema = deepcopy(model).eval()
        self.updates = 0
        self.decay = lambda x: decay * (1 - math.exp(-x / tau))
        for p in self.ema.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        d = self.decay(self.updates)
        msd = model.state_dict()
        for k, v in self.ema.state_dict().items():
            if v.dtype.is_floating_point:
                v.mul_(d).add_(msd[k].detach(), alpha=1 - d)


def decode(cells, gy, gx, grid):
    """Raw outputs of cells -> boxes (x1, y1, x2, y2)."""
    cx, cy = (gx + cells[:, 0].sigmoid()) / grid, (gy + cells[:, 1].sigmoid()) / grid
    w, h = cells[:, 2].sigmoid(), cells[:, 3].sigmoid()
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)


def compute_loss(p, targets):
    grid = p.shape[1]
    b, c = targets[:, 0].long(), targets[:, 1].long()
    cx, cy = (targets[:, 2] + targets[:, 4]) / 2, (targets[:, 3] + targets[:, 5]) / 2
    w, h = targets[:, 4] - targets[:, 2], targets[:, 5] - targets[:, 3]
    gx, gy = (cx * grid).long().clamp(0, grid - 1), (cy * grid).long().clamp(0, grid - 1)
    tobj = torch.zeros_like(p[..., 4])
    tobj[b, gy, gx] = 1.0
    ps = p[b, gy, gx]
    offset = torch.stack([cx * grid - gx, cy * grid - gy], 1)
    lbox = F.l1_loss(ps[:, :2].sigmoid(), offset) + 2 * F.l1_loss(ps[:, 2:4].sigmoid(), torch.stack([w, h], 1))
    lobj = F.binary_cross_entropy_with_logits(p[..., 4], tobj)
    lcls = F.cross_entropy(ps[:, 5:], c)
    return HYP["box"] * lbox + HYP["obj"] * lobj + HYP["cls"] * lcls, torch.stack([lbox, lobj, lcls]).detach()


def box_iou(a, b):
    lt, rb = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (rb - lt).clamp(min=0).prod(2)
    area = lambda t: (t[:, 2] - t[:, 0]) * (t[:, 3] - t[:, 1])
    return inter / (area(a)[:, None] + area(b)[None] - inter + 1e-9)


@torch.no_grad()
def validate(model, loader, conf_thres=0.05, iou_thres=0.5):
    """AP at IoU 0.5 over all classes, and the mean IoU of the hits."""
    model.eval()
    stats, ious, n_truth = [], [], 0
    for imgs, targets in loader:
        p = model(imgs)
        grid = p.shape[1]
        for i in range(len(imgs)):
            truth = targets[targets[:, 0] == i]
            n_truth += len(truth)
            gy, gx = torch.nonzero(p[i, ..., 4].sigmoid() > conf_thres, as_tuple=True)
            cells = p[i, gy, gx]
            conf, cls = cells[:, 4].sigmoid(), cells[:, 5:].argmax(1)
            iou = box_iou(decode(cells, gy, gx, grid), truth[:, 2:])
            iou = iou * (cls[:, None] == truth[None, :, 1].long())
            seen = set()
            for j in conf.argsort(descending=True).tolist():
                best, k = iou[j].max(0)
                hit = best.item() > iou_thres and k.item() not in seen
                if hit:
                    seen.add(k.item())
                    ious.append(best.item())
                stats.append((conf[j].item(), hit))
    if not stats:
        return 0.0, 0.0
    stats.sort(key=lambda s: -s[0])
    tp = torch.tensor([float(hit) for _, hit in stats]).cumsum(0)
    precision, recall = tp / torch.arange(1, len(tp) + 1), tp / n_truth
    precision = precision.flip(0).cummax(0)[0].flip(0)
    ap = torch.trapezoid(torch.cat([precision[:1], precision]), torch.cat([torch.zeros(1), recall])).item()
    return ap, sum(ious) / max(len(ious), 1)


def train(opt):
    torch.manual_seed(opt.seed)
    train_set = ShapeScenes(700, seed=1, augment=True)
    val_set = ShapeScenes(150, seed=2)
    train_loader = DataLoader(train_set, opt.batch_size, shuffle=True, collate_fn=ShapeScenes.collate_fn)
    val_loader = DataLoader(val_set, 50, collate_fn=ShapeScenes.collate_fn)
    model = Detector(nc=len(KINDS))
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(no_decay, lr=HYP["lr0"], momentum=HYP["momentum"], nesterov=True)
    optimizer.add_param_group({"params": decay, "weight_decay": HYP["weight_decay"]})
    lf = lambda e: min(1.0, (e + 1) / (HYP["warmup_epochs"] + 1)) * (
        (1 - math.cos(e * math.pi / opt.epochs)) / 2 * (HYP["lrf"] - 1) + 1
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=lf)
    scaler = torch.amp.GradScaler("cpu")
    ema = ModelEMA(model)
    save_dir, best_fitness = Path(tempfile.mkdtemp(prefix="grid_")), 0.0
    for epoch in range(opt.epochs):
        model.train()
        mloss = torch.zeros(3)
        for i, (imgs, targets) in enumerate(train_loader):
            pred = model(imgs)
            loss, items = compute_loss(pred, targets)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            ema.update(model)
            mloss = (mloss * i + items) / (i + 1)
        scheduler.step()
        if epoch % 5 == 4 or epoch + 1 == opt.epochs:
            ap, miou = validate(ema.ema, val_loader)
            print(f"{epoch + 1:3d}/{opt.epochs}  box {mloss[0]:.3f} obj {mloss[1]:.3f} cls {mloss[2]:.3f}  AP50 {ap:.3f}  IoU {miou:.3f}")
            if ap > best_fitness:
                best_fitness = ap
                torch.save({"epoch": epoch, "ema": ema.ema.state_dict()}, save_dir / "best.pt")
    print(f"best AP50 {best_fitness:.3f}, last AP50 {ap:.3f}, weights in {save_dir}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())
