"""Deep metric learning on distorted digits with semi-hard triplets.

    python c01_triplet_digits.py --epochs 30 --margin 0.3
"""
import argparse
import copy
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

def get_args():
    p = argparse.ArgumentParser("semi-hard triplet training")
    p.add_argument("--epochs", type=int, default=30)
    p.add_argument("--P", type=int, default=8, help="classes per batch")
    p.add_argument("--K", type=int, default=8, help="samples per class")
    p.add_argument("--dim", type=int, default=32)
    p.add_argument("--margin", type=float, default=0.3)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--wd", type=float, default=1e-4)
    p.add_argument("--seed", type=int, default=7)
    return p.parse_args()

def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

def distort(img, rng):
    """8x8 digit -> 16x16, rotated, shifted, on a cluttered background."""
    big = ndimage.zoom(img, 2, order=1)
    big = ndimage.rotate(big, rng.uniform(-30, 30), reshape=False, order=1)
    big = ndimage.shift(big, rng.uniform(-1.5, 1.5, size=2), order=1)
    clutter = ndimage.gaussian_filter(rng.randn(16, 16), 1.0)
    return np.clip(big, 0, 1) + 0.4 * clutter

def build_data(seed):
    d = load_digits()
    rng = np.random.RandomState(seed)
    x = np.stack([distort(im / 16.0, rng) for im in d.images]).astype("float32")
    y = d.target.astype("int64")
    x_tr, x_te, y_tr, y_te = train_test_split(x, y, test_size=0.25, stratify=y, random_state=seed)
    x_tr, x_va, y_tr, y_va = train_test_split(x_tr, y_tr, test_size=0.2, stratify=y_tr, random_state=seed)
    mean, std = x_tr.mean(), x_tr.std()
    out = {}
    for name, xs, ys in (("train", x_tr, y_tr), ("val", x_va, y_va), ("test", x_te, y_te)):
        out[name] = (torch.from_numpy((xs - mean) / std).unsqueeze(1), torch.from_numpy(ys))
    return out

class PKSampler:
    """Yields index batches holding P classes with K samples each."""

    def __init__(self, labels, P, K, seed=0):
        self.P, self.K = P, K
        self.pools = {int(c): np.flatnonzero(labels.numpy() == c) for c in labels.unique()}
        self.num_batches = len(labels) // (P * K)
        self.rng = np.random.RandomState(seed)

    def __len__(self):
        return self.num_batches

    def __iter__(self):
        classes = list(self.pools)
        for _ in range(self.num_batches):
            chosen = self.rng.choice(classes, self.P, replace=False)
            batch = [self.rng.choice(self.pools[c], self.K, replace=False) for c in chosen]
            yield torch.from_numpy(np.concatenate(batch))

def augment(x):
    dy, dx = random.randint(-1, 1), random.randint(-1, 1)
    x = torch.roll(x, shifts=(dy, dx), dims=(2, 3))
    return x + 0.1 * torch.randn_like(x)

class EmbeddingNet(nn.Module):
    def __init__(self, dim=32, width=16):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))

        self.features = nn.Sequential(
            block(1, width), nn.MaxPool2d(2),
            block(width, 2 * width), nn.MaxPool2d(2),
            block(2 * width, 4 * width),
        )
        self.head = nn.Linear(4 * width * 16, dim)

    def forward(self, x):
        x = self.features(x).flatten(1)
        return F.normalize(self.head(x), p=2, dim=1)

def pairwise_distance(emb):
    sq = emb.pow(2).sum(dim=1)
    d2 = sq.unsqueeze(0) + sq.unsqueeze(1) - 2.0 * emb @ emb.t()
    return d2.clamp(min=1e-8).sqrt()

class SemiHardTripletLoss(nn.Module):
    """For each (anchor, positive): the closest negative that is farther than the positive,
    or the farthest negative where there is none."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, emb, labels):
        dist = pairwise_distance(emb)
        same = labels.unsqueeze(0) == labels.unsqueeze(1)
        eye = torch.eye(len(labels), dtype=torch.bool, device=emb.device)
        d_ap = dist.unsqueeze(2)  # anchor, positive, 1
        d_an = dist.unsqueeze(1).expand(-1, len(labels), -1)  # anchor, 1, negative
        farther = (d_an > d_ap) & ~same.unsqueeze(1)
        semi = d_an.masked_fill(~farther, float("inf")).min(dim=2).values
        easiest = dist.masked_fill(same, 0.0).max(dim=1, keepdim=True).values
        neg = torch.where(farther.any(dim=2), semi, easiest)
        loss = F.relu(dist - neg + self.margin)[same & ~eye]
        return loss.mean(), (loss > 0).float().mean()

class AverageMeter:
    def __init__(self):
        self.sum, self.n = 0.0, 0

    def update(self, v, n=1):
        self.sum += float(v) * n
        self.n += n

    @property
    def avg(self):
        return self.sum / max(self.n, 1)

@torch.no_grad()
def embed(net, x, bs=256):
    net.eval()
    return torch.cat([net(c) for c in x.split(bs)])

def retrieval_scores(emb, y):
    """Leave-one-out Recall@1 and MAP@R within one set."""
    sim = emb @ emb.t()
    sim.fill_diagonal_(-float("inf"))
    order = sim.argsort(dim=1, descending=True)
    hits = (y[order] == y.unsqueeze(1)).float()
    r1 = hits[:, 0].mean().item()
    maps = []
    for i in range(len(y)):
        R = int((y == y[i]).sum()) - 1
        h = hits[i, :R]
        prec = h.cumsum(0) / torch.arange(1, R + 1)
        maps.append(((prec * h).sum() / R).item())
    return r1, float(np.mean(maps))

def knn_accuracy(gallery, gy, query, qy, k=5, T=0.1):
    sim, idx = (query @ gallery.t()).topk(k, dim=1)
    votes = torch.zeros(len(query), int(gy.max()) + 1)
    votes.scatter_add_(1, gy[idx], (sim / T).exp())
    return (votes.argmax(1) == qy).float().mean().item()

def linear_probe(gallery, gy, query, qy):
    clf = LogisticRegression(max_iter=500, C=10.0).fit(gallery.numpy(), gy.numpy())
    return clf.score(query.numpy(), qy.numpy())

def main():
    args = get_args()
    seed_everything(args.seed)
    data = build_data(args.seed)
    x_tr, y_tr = data["train"]
    x_va, y_va = data["val"]
    x_te, y_te = data["test"]
    sampler = PKSampler(y_tr, args.P, args.K, seed=args.seed)

    net = EmbeddingNet(args.dim)
    criterion = SemiHardTripletLoss(args.margin)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=args.wd)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.epochs * len(sampler), pct_start=0.2)

    best_r1, best_state = -1.0, None
    for epoch in range(args.epochs):
        net.train()
        losses, active = AverageMeter(), AverageMeter()
        start = time.time()
        for idx in sampler:
            x, y = augment(x_tr[idx]), y_tr[idx]
            loss, frac = criterion(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.update(loss.item(), len(idx))
            active.update(frac.item(), len(idx))
        r1, mapr = retrieval_scores(embed(net, x_va), y_va)
        if r1 > best_r1:
            best_r1, best_state = r1, copy.deepcopy(net.state_dict())
        print(f"epoch {epoch + 1:02d} loss {losses.avg:.4f} active {active.avg:.2f} "
              f"val R@1 {r1:.4f} MAP@R {mapr:.4f} ({time.time() - start:.1f}s)")

    net.load_state_dict(best_state)
    g, q = embed(net, x_tr), embed(net, x_te)
    r1, mapr = retrieval_scores(q, y_te)
    knn = knn_accuracy(g, y_tr, q, y_te)
    probe = linear_probe(g, y_tr, q, y_te)
    print(f"TEST R@1 {r1:.4f} MAP@R {mapr:.4f} kNN {knn:.4f} linear {probe:.4f}")

if __name__ == "__main__":
    main()
