"""Tiny YOLO on synthetic shapes: 6x6 grid, two anchors per cell, own NMS and mAP@0.5."""
import argparse
import copy
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader, Dataset

CLASSES = ["disk", "box", "triangle"]
IMG = 48
GRID = 6
STRIDE = IMG // GRID
ANCHORS = torch.tensor([[10.0, 10.0], [17.0, 17.0]])  # w, h in pixels

def parse_opt():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--warmup", type=int, default=40)
    p.add_argument("--n-train", type=int, default=1200)
    p.add_argument("--seed", type=int, default=3)
    return p.parse_args()

def xywh2xyxy(b):
    return torch.cat([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], dim=-1)

def box_iou(a, b):
    """IoU matrix of xyxy boxes."""
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    lt = torch.max(a[:, None, :2], b[None, :, :2])
    rb = torch.min(a[:, None, 2:], b[None, :, 2:])
    inter = (rb - lt).clamp(min=0).prod(dim=2)
    return inter / (area_a[:, None] + area_b[None] - inter + 1e-9)

def render(rng):
    """One scene: image in [0,1], boxes (cx, cy, w, h) in pixels, labels."""
    img = Image.new("RGB", (IMG, IMG), tuple(int(v) for v in rng.randint(0, 90, 3)))
    draw = ImageDraw.Draw(img)
    boxes, labels = [], []
    for _ in range(rng.randint(1, 4)):
        w, h = rng.randint(8, 21, size=2)
        x0, y0 = rng.randint(0, IMG - w), rng.randint(0, IMG - h)
        cand = torch.tensor([[x0, y0, x0 + w, y0 + h]]).float()
        if boxes and box_iou(cand, xywh2xyxy(torch.tensor(boxes))).max() > 0.1:
            continue
        c = int(rng.randint(len(CLASSES)))
        color = tuple(int(v) for v in rng.randint(110, 256, 3))
        x0, y0, x1, y1 = int(x0), int(y0), int(x0 + w - 1), int(y0 + h - 1)
        if c == 0:
            draw.ellipse([x0, y0, x1, y1], fill=color)
        elif c == 1:
            draw.rectangle([x0, y0, x1, y1], fill=color)
        else:
            draw.polygon([(x0, y1), (x1, y1), ((x0 + x1) // 2, y0)], fill=color)
        boxes.append([x0 + w / 2, y0 + h / 2, float(w), float(h)])
        labels.append(c)
    arr = np.asarray(img, dtype=np.float32) / 255.0 + rng.randn(IMG, IMG, 3) * 0.05
    return torch.from_numpy(arr.astype(np.float32)).permute(2, 0, 1), torch.tensor(boxes), torch.tensor(labels)

class ShapesDataset(Dataset):
    def __init__(self, n, seed, train=False):
        rng = np.random.RandomState(seed)
        self.items = [render(rng) for _ in range(n)]
        self.train = train
    def __len__(self):
        return len(self.items)
    def __getitem__(self, i):
        img, boxes, labels = self.items[i]
        if self.train and torch.rand(1).item() < 0.5:
            img = img.flip(-1)
            boxes = boxes.clone()
            boxes[:, 0] = IMG - boxes[:, 0]
        return (img - 0.5) / 0.25, boxes, labels, build_target(boxes, labels)

def build_target(boxes, labels):
    """(A, G, G, 6): obj, tx, ty, tw, th, cls"""
    t = torch.zeros(len(ANCHORS), GRID, GRID, 6)
    for (cx, cy, w, h), c in zip(boxes.tolist(), labels.tolist()):
        gx, gy = min(cx / STRIDE, GRID - 1e-3), min(cy / STRIDE, GRID - 1e-3)
        gi, gj = int(gx), int(gy)
        ratio = torch.tensor([w, h]) / ANCHORS
        a = int(torch.max(ratio, 1 / ratio).amax(dim=1).argmin())
        t[a, gj, gi] = torch.tensor([1.0, gx - gi, gy - gj, *ratio[a].log().tolist(), c])
    return t

def collate(batch):
    imgs, boxes, labels, targets = zip(*batch)
    return torch.stack(imgs), list(boxes), list(labels), torch.stack(targets)

def conv(i, o, s=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1, inplace=True))

class TinyYolo(nn.Module):
    def __init__(self, num_classes=len(CLASSES), num_anchors=len(ANCHORS)):
        super().__init__()
        self.na, self.no = num_anchors, 5 + num_classes
        self.backbone = nn.Sequential(conv(3, 16, 2), conv(16, 24), conv(24, 32, 2), conv(32, 32),
                                      conv(32, 64, 2), conv(64, 64), conv(64, 64))
        self.detect = nn.Conv2d(64, self.na * self.no, 1)
        with torch.no_grad():
            self.detect.bias.view(self.na, self.no)[:, 0].fill_(-3.0)
    def forward(self, x):
        p = self.detect(self.backbone(x))
        b, _, gh, gw = p.shape
        return p.view(b, self.na, self.no, gh, gw).permute(0, 1, 3, 4, 2)

def yolo_loss(p, t):
    obj = t[..., 0] == 1
    n = obj.sum().clamp(min=1)
    l_obj = F.binary_cross_entropy_with_logits(p[..., 0], t[..., 0], reduction="sum") / n
    l_xy = F.mse_loss(torch.sigmoid(p[obj][:, 1:3]), t[obj][:, 1:3], reduction="sum") / n
    l_wh = F.mse_loss(p[obj][:, 3:5], t[obj][:, 3:5], reduction="sum") / n
    l_cls = F.cross_entropy(p[obj][:, 5:], t[obj][:, 5].long())
    return l_obj + 5.0 * l_xy + 5.0 * l_wh + l_cls

def decode(p):
    """Raw map -> (B, N, 4) xyxy pixels, (B, N) score, (B, N) class."""
    gy, gx = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    cx = (torch.sigmoid(p[..., 1]) + gx) * STRIDE
    cy = (torch.sigmoid(p[..., 2]) + gy) * STRIDE
    w = p[..., 3].exp() * ANCHORS[:, 0].view(1, -1, 1, 1)
    h = p[..., 4].exp() * ANCHORS[:, 1].view(1, -1, 1, 1)
    prob, cls = p[..., 5:].softmax(-1).max(-1)
    boxes = xywh2xyxy(torch.stack([cx, cy, w, h], dim=-1))
    score = torch.sigmoid(p[..., 0]) * prob
    return boxes.flatten(1, 3), score.flatten(1), cls.flatten(1)

def nms(boxes, scores, thr):
    order = scores.argsort(descending=True)
    keep = []
    while len(order):
        i = order[0]
        keep.append(i.item())
        iou = box_iou(boxes[i][None], boxes[order[1:]])[0]
        order = order[1:][iou <= thr]
    return torch.tensor(keep, dtype=torch.long)

def average_precision(tp, scores, n_gt):
    order = np.argsort(-scores, kind="stable")
    tp = tp[order]
    ctp, cfp = np.cumsum(tp), np.cumsum(1 - tp)
    recall = np.concatenate([[0.0], ctp / n_gt, [1.0]])
    precision = np.concatenate([[1.0], ctp / (ctp + cfp), [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision[1:]))

@torch.no_grad()
def evaluate(model, loader, conf_thr=0.02, nms_thr=0.45, iou_thr=0.5):
    model.eval()
    records = {c: ([], []) for c in range(len(CLASSES))}
    n_gt = np.zeros(len(CLASSES))
    for imgs, gt_boxes, gt_labels, _ in loader:
        for boxes, score, cls, gb, gl in zip(*decode(model(imgs)), gt_boxes, gt_labels):
            gb = xywh2xyxy(gb)
            for c in range(len(CLASSES)):
                g = gb[gl == c]
                n_gt[c] += len(g)
                m = (cls == c) & (score > conf_thr)
                b, s = boxes[m], score[m]
                keep = nms(b, s, nms_thr)
                used = torch.zeros(len(g), dtype=torch.bool)
                for bi, si in zip(b[keep], s[keep]):
                    hit = 0.0
                    if len(g):
                        iou, j = box_iou(bi[None], g)[0].max(0)
                        if iou >= iou_thr and not used[j]:
                            used[j] = True
                            hit = 1.0
                    records[c][0].append(hit)
                    records[c][1].append(si.item())
    aps = [average_precision(np.array(r[0]), np.array(r[1]), n_gt[c]) for c, r in records.items()]
    return float(np.mean(aps)), aps

def main():
    opt = parse_opt()
    torch.manual_seed(opt.seed)
    train_set = ShapesDataset(opt.n_train, seed=opt.seed, train=True)
    train_loader = DataLoader(train_set, opt.batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    val_loader = DataLoader(ShapesDataset(150, seed=opt.seed + 1), 64, collate_fn=collate)
    test_loader = DataLoader(ShapesDataset(200, seed=opt.seed + 2), 64, collate_fn=collate)
    model = TinyYolo()
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt.lr, weight_decay=5e-4)
    total = opt.epochs * len(train_loader)
    def lr_factor(step):
        if step < opt.warmup:
            return (step + 1) / opt.warmup
        done = (step - opt.warmup) / max(1, total - opt.warmup)
        return 0.5 * (1 + np.cos(np.pi * done)) * 0.99 + 0.01
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor)
    best, best_state = -1.0, None
    for epoch in range(1, opt.epochs + 1):
        model.train()
        t0, total_loss = time.time(), 0.0
        for imgs, _, _, targets in train_loader:
            loss = yolo_loss(model(imgs), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            scheduler.step()
            total_loss += loss.item()
        line = f"epoch {epoch:2d} loss {total_loss / len(train_loader):.4f} lr {optimizer.param_groups[0]['lr']:.5f}"
        if epoch % 2 == 0 or epoch == opt.epochs:
            m_ap, _ = evaluate(model, val_loader)
            if m_ap > best:
                best, best_state = m_ap, copy.deepcopy(model.state_dict())
            line += f" val mAP@0.5 {m_ap:.4f}"
        print(f"{line} {time.time() - t0:.1f}s")
    model.load_state_dict(best_state)
    m_ap, aps = evaluate(model, test_loader)
    print(f"TEST mAP@0.5 {m_ap:.4f} " + " ".join(f"{n} {a:.3f}" for n, a in zip(CLASSES, aps)))

if __name__ == "__main__":
    main()
