#!/usr/bin/env python
# One-stage detector without anchors on a grid of cells (stride 4), several objects a picture.
import argparse

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

KINDS = ("square", "disc", "cross")
SIZE, STRIDE = 32, 4
GRID = SIZE // STRIDE


class Scenes(Dataset):
    def __init__(self, count, seed, flip=False):
        g = torch.Generator().manual_seed(seed)
        rint = lambda lo, hi: int(torch.randint(lo, hi, (1,), generator=g))
        self.flip = flip
        self.scenes = []
        for _ in range(count):
            img = torch.full((3, SIZE, SIZE), 0.5)
            taken = torch.zeros(SIZE, SIZE, dtype=torch.bool)
            boxes, kinds = [], []
            for _ in range(rint(1, 4)):
                w = rint(8, 13)
                top, left, kind = rint(0, SIZE - w), rint(0, SIZE - w), rint(0, 3)
                if taken[top:top + w, left:left + w].any():
                    continue
                taken[top:top + w, left:left + w] = True
                color = torch.rand(3, generator=g)
                img[:, shape_mask(KINDS[kind], SIZE, top, left, w)] = torch.where(color > 0.5, 0.95, 0.05)[:, None]
                boxes.append([left, top, left + w, top + w])
                kinds.append(kind)
            img += 0.05 * torch.randn(img.shape, generator=g)
            self.scenes.append((img, torch.tensor(boxes).float(), torch.tensor(kinds)))

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, i):
        img, boxes, kinds = self.scenes[i]
        if self.flip and torch.rand(()) < 0.5:
            img = img.flip(2)
            boxes = torch.stack([SIZE - boxes[:, 2], boxes[:, 1], SIZE - boxes[:, 0], boxes[:, 3]], 1)
        return (img - 0.5) / 0.25, boxes, kinds


def collate(batch):
    imgs, boxes, kinds = zip(*batch)
    return torch.stack(imgs), list(boxes), list(kinds)


class Detector(nn.Module):
    def __init__(self, width=16):
        super().__init__()

        def block(i, o, s):
            return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())

        self.backbone = nn.Sequential(
            block(3, width, 1), block(width, width, 2), block(width, 2 * width, 2),
            block(2 * width, 2 * width, 1), block(2 * width, 2 * width, 1))
        self.heads = nn.ModuleDict({
            "obj": nn.Conv2d(2 * width, 1, 1),
            "kind": nn.Conv2d(2 * width, len(KINDS), 1),
            "box": nn.Conv2d(2 * width, 4, 1),
        })
        nn.init.constant_(self.heads["obj"].bias, -3.0)

    def forward(self, x):
        feat = self.backbone(x)
        return {name: head(feat) for name, head in self.heads.items()}


def encode(boxes, kinds):
    """Center cell of each box: objectness 1, offsets in the cell and log sizes."""
    n = len(boxes)
    obj = torch.zeros(n, GRID, GRID)
    cls = torch.full((n, GRID, GRID), -1)
    reg = torch.zeros(n, 4, GRID, GRID)
    for b, (bx, kd) in enumerate(zip(boxes, kinds)):
        cx, cy = (bx[:, 0] + bx[:, 2]) / 2 / STRIDE, (bx[:, 1] + bx[:, 3]) / 2 / STRIDE
        gx, gy = cx.long().clamp(0, GRID - 1), cy.long().clamp(0, GRID - 1)
        obj[b, gy, gx] = 1.0
        cls[b, gy, gx] = kd
        wh = ((bx[:, 2:] - bx[:, :2]) / STRIDE).log()
        reg[b, :, gy, gx] = torch.stack([cx - gx, cy - gy, wh[:, 0], wh[:, 1]])
    return obj, cls, reg


def detection_loss(out, boxes, kinds):
    obj, cls, reg = encode(boxes, kinds)
    pos = obj.bool()
    l_obj = F.binary_cross_entropy_with_logits(out["obj"].squeeze(1), obj, reduction="sum") / pos.sum()
    l_cls = F.cross_entropy(out["kind"].permute(0, 2, 3, 1)[pos], cls[pos])
    l_box = F.smooth_l1_loss(out["box"].permute(0, 2, 3, 1)[pos], reg.permute(0, 2, 3, 1)[pos])
    return l_obj + l_cls + 4 * l_box


def iou_matrix(a, b):
    lt, rb = torch.max(a[:, None, :2], b[None, :, :2]), torch.min(a[:, None, 2:], b[None, :, 2:])
    inter = (rb - lt).clamp(min=0).prod(2)
    area = lambda z: (z[:, 2:] - z[:, :2]).prod(1)
    return inter / (area(a)[:, None] + area(b)[None] - inter)


def decode(out, b, score_thr, nms_thr=0.4):
    score, reg = out["obj"][b, 0].sigmoid(), out["box"][b]
    gy, gx = (score > score_thr).nonzero(as_tuple=True)
    c = torch.stack([reg[0, gy, gx] + gx, reg[1, gy, gx] + gy], 1) * STRIDE
    wh = reg[2:, gy, gx].T.clamp(max=3).exp() * STRIDE
    boxes, kinds = torch.cat([c - wh / 2, c + wh / 2], 1), out["kind"][b, :, gy, gx].argmax(0)
    keep = []
    for i in score[gy, gx].argsort(descending=True).tolist():
        if not keep or iou_matrix(boxes[i:i + 1], boxes[keep]).max() < nms_thr:
            keep.append(i)
    return boxes[keep], kinds[keep]


@torch.no_grad()
def f1_score(model, loader, score_thr):
    model.eval()
    tp = n_pred = n_true = 0
    for imgs, boxes, kinds in loader:
        out = model(imgs)
        for b in range(len(imgs)):
            pb, pk = decode(out, b, score_thr)
            n_pred, n_true = n_pred + len(pb), n_true + len(boxes[b])
            if len(pb) == 0:
                continue
            ious = iou_matrix(pb, boxes[b]) * (pk[:, None] == kinds[b][None])
            for row in ious:
                j = row.argmax()
                if row[j] > 0.5:
                    tp += 1
                    ious[:, j] = 0
    precision, recall = tp / max(n_pred, 1), tp / n_true
    return precision, recall, 2 * tp / max(n_pred + n_true, 1)


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--iters", type=int, default=260)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--score-thr", type=float, default=0.4)
    opts = ap.parse_args()
    torch.manual_seed(0)
    train = DataLoader(Scenes(900, 0, flip=True), opts.batch, shuffle=True, collate_fn=collate, drop_last=True)
    test = DataLoader(Scenes(150, 1), 50, collate_fn=collate)
    model = Detector()
    optimizer = torch.optim.Adam(model.parameters(), lr=opts.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, opts.iters)
    it = 0
    while it < opts.iters:
        model.train()
        for imgs, boxes, kinds in train:
            loss = detection_loss(model(imgs), boxes, kinds)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            it += 1
            if it == opts.iters:
                break
        p, r, f1 = f1_score(model, test, opts.score_thr)
        print(f"iter {it:4d} loss {loss.item():.3f} | precision {p:.3f} recall {r:.3f} F1@0.5 {f1:.3f}")
