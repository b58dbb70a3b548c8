"""Single-scale anchor-free detector on generated scenes, in the shape of an Ultralytics head and loss."""
import argparse
import copy
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

SIZE, STRIDE, NC = 48, 8, 2


class Scenes(Dataset):
    """Up to three boxes per scene: filled rectangles (class 0) or hollow ones (class 1)."""

    def __init__(self, n, seed, augment=False):
        rng = np.random.default_rng(seed)
        self.augment, self.images, self.labels = augment, [], []
        for _ in range(n):
            img = rng.normal(0.3, 0.08, (3, SIZE, SIZE)).astype(np.float32)
            boxes = []
            for _ in range(rng.integers(1, 4)):
                w, h = rng.integers(9, 19, 2)
                x, y = rng.integers(0, SIZE - w), rng.integers(0, SIZE - h)
                if any(x < b[1] + b[3] and b[1] < x + w and y < b[2] + b[4] and b[2] < y + h for b in boxes):
                    continue
                c = rng.integers(0, NC)
                colour = rng.uniform(0.6, 1.0, (3, 1, 1))
                img[:, y:y + h, x:x + w] = colour
                if c == 1:
                    img[:, y + 3:y + h - 3, x + 3:x + w - 3] = 0.3
                boxes.append((c, x, y, w, h))
            self.images.append(img)
            b = np.array(boxes, dtype=np.float32)
            self.labels.append(np.stack([b[:, 0], b[:, 1] + b[:, 3] / 2, b[:, 2] + b[:, 4] / 2, b[:, 3], b[:, 4]], 1))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img, lab = torch.from_numpy(self.images[i]), torch.from_numpy(self.labels[i]).clone()
        if self.augment and torch.rand(1).item() < 0.5:
            img = img.flip(2)
            lab[:, 1] = SIZE - lab[:, 1]
        return img, lab

    @staticmethod
    def collate_fn(batch):
        imgs, labs = zip(*batch)
        rows = [torch.cat([torch.full((len(l), 1), float(i)), l], 1) for i, l in enumerate(labs)]
        return torch.stack(imgs), torch.cat(rows)


class Conv(nn.Module):
    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Detector(nn.Module):
    """Backbone to stride 8; per cell: objectness, offset in the cell, log size, class logits."""

    def __init__(self, nc=NC):
        super().__init__()
        self.backbone = nn.Sequential(Conv(3, 12, 3, 2), Conv(12, 24, 3, 2), Conv(24, 48, 3, 2), Conv(48, 48))
        self.head = nn.Conv2d(48, 5 + nc, 1)
        nn.init.constant_(self.head.bias[:1], -3.0)

    def forward(self, x):
        return self.head(self.backbone(x)).permute(0, 2, 3, 1)


class DetectionLoss:
    def __init__(self, box=2.0, obj=1.0, cls=1.0):
        self.gain = (box, obj, cls)

    def __call__(self, pred, targets):
        tobj = torch.zeros_like(pred[..., 0])
        b = targets[:, 0].long()
        gx, gy = (targets[:, 2] / STRIDE).long(), (targets[:, 3] / STRIDE).long()
        tobj[b, gy, gx] = 1.0
        ps = pred[b, gy, gx]
        txy = targets[:, 2:4] / STRIDE - torch.stack([gx, gy], 1)
        twh = torch.log(targets[:, 4:6] / STRIDE)
        lbox = F.smooth_l1_loss(ps[:, 1:3].sigmoid(), txy) + F.smooth_l1_loss(ps[:, 3:5], twh)
        lobj = F.binary_cross_entropy_with_logits(pred[..., 0], tobj, pos_weight=torch.tensor(4.0))
        lcls = F.cross_entropy(ps[:, 5:], targets[:, 1].long())
        return self.gain[0] * lbox + self.gain[1] * lobj + self.gain[2] * lcls, (lbox.item(), lobj.item(), lcls.item())


class ModelEMA:
    def __init__(self, model, decay=0.98):
        self.ema, self.decay = copy.deepcopy(model).eval(), decay

    def update(self, model):
        msd = model.state_dict()
        for k, v in self.ema.state_dict().items():
            if v.dtype.is_floating_point:
                v.mul_(self.decay).add_(msd[k].detach(), alpha=1 - self.decay)


def decode(pred, conf):
    """Boxes (x, y, w, h, class) of one image; a cell must be a peak among its neighbours."""
    obj = pred[..., 0].sigmoid()
    peak = F.max_pool2d(obj[None], 3, 1, 1)[0] == obj
    gy, gx = torch.nonzero(peak & (obj > conf), as_tuple=True)
    p = pred[gy, gx]
    xy = (p[:, 1:3].sigmoid() + torch.stack([gx, gy], 1)) * STRIDE
    return torch.cat([xy, p[:, 3:5].exp() * STRIDE, p[:, 5:].argmax(1, keepdim=True).float()], 1)


def iou(a, b):
    lo = torch.maximum(a[:2] - a[2:4] / 2, b[:2] - b[2:4] / 2)
    hi = torch.minimum(a[:2] + a[2:4] / 2, b[:2] + b[2:4] / 2)
    inter = (hi - lo).clamp(min=0).prod()
    return (inter / (a[2:4].prod() + b[2:4].prod() - inter)).item()


@torch.no_grad()
def val(model, loader, conf=0.5):
    model.eval()
    tp, n_pred, n_true = 0, 0, 0
    for imgs, targets in loader:
        for i, p in enumerate(model(imgs)):
            found, truth = decode(p, conf), targets[targets[:, 0] == i]
            for t in truth:
                tp += any(iou(f, t[2:6]) > 0.5 and f[4] == t[1] for f in found)
            n_pred, n_true = n_pred + len(found), n_true + len(truth)
    return 2 * tp / max(1, n_pred + n_true)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr0", type=float, default=4e-3)
    parser.add_argument("--lrf", type=float, default=0.05)
    opt = parser.parse_args()
    torch.manual_seed(0)
    train_loader = DataLoader(Scenes(640, 0, augment=True), opt.batch, shuffle=True, collate_fn=Scenes.collate_fn)
    val_loader = DataLoader(Scenes(120, 1), 40, collate_fn=Scenes.collate_fn)
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt.lr0, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: (1 - e / opt.epochs) * (1 - opt.lrf) + opt.lrf)
    ema, compute_loss = ModelEMA(model), DetectionLoss()
    for epoch in range(opt.epochs):
        model.train()
        mloss = np.zeros(3)
        for imgs, targets in train_loader:
            loss, items = compute_loss(model(imgs), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model)
            mloss += np.array(items) / len(train_loader)
        scheduler.step()
        f1 = val(ema.ema, val_loader)
        print(f"{epoch + 1}/{opt.epochs} box {mloss[0]:.4f} obj {mloss[1]:.4f} cls {mloss[2]:.4f} F1@0.5 {f1:.4f}", flush=True)
        torch.save({"epoch": epoch, "ema": ema.ema.state_dict()}, os.path.join(tempfile.gettempdir(), "yolo_last.pt"))


if __name__ == "__main__":
    main()
