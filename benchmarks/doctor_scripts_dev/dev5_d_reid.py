"""Embedding network with a triplet loss and a retrieval evaluation (re-identification style)."""
import argparse
import logging
import random
from collections import defaultdict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset, Sampler

logger = logging.getLogger("reid_baseline")


def place_on_canvas(digit, rng, size=18):
    """Put an 8x8 digit somewhere on a larger, cluttered canvas."""
    yy, xx = np.mgrid[:size, :size]
    canvas = 0.25 * np.sin(xx * rng.uniform(-0.8, 0.8) + yy * rng.uniform(-0.8, 0.8) + rng.uniform(0, 6))
    canvas = canvas + rng.normal(0, 0.08, (size, size)) + rng.uniform(0.1, 0.4)
    top, left = rng.integers(0, size - 8 + 1, 2)
    canvas[top:top + 8, left:left + 8] += digit * rng.uniform(0.6, 1.2)
    return canvas.astype(np.float32)


class ImageDataset(Dataset):
    def __init__(self, images, labels, seed, train):
        self.rng = np.random.default_rng(seed)
        self.train = train
        # a training digit is placed anew each time, a test digit once and for all
        self.images = images if train else [place_on_canvas(d, self.rng) for d in images]
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        img = self.images[index]
        if self.train:
            img = place_on_canvas(img, self.rng)
        img = (img - 0.35) / 0.3
        return torch.as_tensor(img, dtype=torch.float32)[None], int(self.labels[index])


class RandomIdentitySampler(Sampler):
    """Draws P identities with K instances each, until an epoch's worth is out."""

    def __init__(self, labels, batch_size, num_instances, seed=0):
        self.num_instances = num_instances
        self.num_pids_per_batch = batch_size // num_instances
        self.index_dic = defaultdict(list)
        for index, pid in enumerate(labels):
            self.index_dic[int(pid)].append(index)
        self.pids = list(self.index_dic)
        self.num_batches = len(labels) // batch_size
        self.rng = random.Random(seed)

    def __iter__(self):
        for _ in range(self.num_batches):
            for pid in self.rng.sample(self.pids, self.num_pids_per_batch):
                yield from self.rng.sample(self.index_dic[pid], self.num_instances)

    def __len__(self):
        return self.num_batches * self.num_pids_per_batch * self.num_instances


class ConvBlock(nn.Sequential):
    def __init__(self, c_in, c_out, stride):
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        )


class Baseline(nn.Module):
    def __init__(self, feat_dim):
        super().__init__()
        self.base = nn.Sequential(
            ConvBlock(1, 24, 1), ConvBlock(24, 32, 2), ConvBlock(32, 48, 1),
            ConvBlock(48, 64, 2), ConvBlock(64, 64, 1),
        )
        self.gap = nn.AdaptiveMaxPool2d(1)
        self.embed = nn.Linear(64, feat_dim)

    def forward(self, x):
        feat = self.gap(self.base(x)).flatten(1)
        return F.normalize(self.embed(feat), dim=1)


def euclidean_dist(x, y):
    xx = x.pow(2).sum(1, keepdim=True)
    yy = y.pow(2).sum(1, keepdim=True).t()
    return (xx + yy - 2 * x @ y.t()).clamp(min=1e-12).sqrt()


class TripletLoss:
    """All valid (anchor, positive, negative) triplets of the batch, averaged over the violating ones."""

    def __init__(self, margin):
        self.margin = margin

    def __call__(self, feat, labels):
        dist = euclidean_dist(feat, feat)
        same = labels[:, None].eq(labels[None, :])
        itself = torch.eye(len(labels), dtype=torch.bool)
        is_pos, is_neg = same & ~itself, ~same
        valid = is_pos[:, :, None] & is_neg[:, None, :]
        hinge = F.relu(dist[:, :, None] - dist[:, None, :] + self.margin) * valid
        violating = (hinge > 0).sum()
        loss = hinge.sum() / violating.clamp(min=1)
        return loss, violating / valid.sum().clamp(min=1)


@torch.no_grad()
def extract_features(model, loader):
    model.eval()
    feats, pids = [], []
    for img, pid in loader:
        feats.append(model(img))
        pids.append(pid)
    return torch.cat(feats), torch.cat(pids)


def evaluate(model, loader):
    """Every image is the query once, all the others are the gallery."""
    feats, pids = extract_features(model, loader)
    dist = euclidean_dist(feats, feats)
    dist.fill_diagonal_(float("inf"))
    order = dist.argsort(dim=1)
    matches = (pids[order] == pids[:, None])[:, :-1].float()
    rank1 = matches[:, 0].mean().item()
    precision = matches.cumsum(1) / torch.arange(1, matches.size(1) + 1)
    mean_ap = ((precision * matches).sum(1) / matches.sum(1)).mean().item()
    return rank1, mean_ap


def do_train(args, model, train_loader, val_loader):
    criterion = TripletLoss(args.margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.base_lr, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=args.steps, gamma=0.1)
    for epoch in range(1, args.max_epochs + 1):
        model.train()
        running = 0.0
        for img, target in train_loader:
            optimizer.zero_grad()
            loss, violating = criterion(model(img), target)
            loss.backward()
            optimizer.step()
            running += loss.item()
        scheduler.step()
        if epoch % args.eval_period == 0:
            rank1, mean_ap = evaluate(model, val_loader)
            logger.info("Epoch[%d] loss %.3f violating %.3f | Rank-1 %.4f mAP %.4f", epoch,
                        running / len(train_loader), violating, rank1, mean_ap)
    return evaluate(model, val_loader)


def main():
    parser = argparse.ArgumentParser(description="Triplet baseline")
    parser.add_argument("--base-lr", type=float, default=2e-3)
    parser.add_argument("--margin", type=float, default=0.3)
    parser.add_argument("--ims-per-batch", type=int, default=60)
    parser.add_argument("--num-instance", type=int, default=6)
    parser.add_argument("--max-epochs", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=[11, 14])
    parser.add_argument("--eval-period", type=int, default=4)
    parser.add_argument("--feat-dim", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s: %(message)s")
    torch.manual_seed(args.seed)

    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.images / 16.0, digits.target, test_size=450, stratify=digits.target, random_state=args.seed)
    train_set = ImageDataset(x_train, y_train, args.seed, train=True)
    val_set = ImageDataset(x_test, y_test, args.seed + 10, train=False)
    sampler = RandomIdentitySampler(y_train, args.ims_per_batch, args.num_instance, args.seed)
    train_loader = DataLoader(train_set, batch_size=args.ims_per_batch, sampler=sampler, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=90)

    model = Baseline(args.feat_dim)
    rank1, mean_ap = do_train(args, model, train_loader, val_loader)
    print(f"val Rank-1: {rank1:.4f}  mAP: {mean_ap:.4f}")


if __name__ == "__main__":
    main()
