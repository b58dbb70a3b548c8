"""Retrieval of digits, after the "bag of tricks" of person re-identification: ID loss, batch-hard triplets, BNNeck."""
import math
import random
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import draw_digits

cfg = {
    "seed": 3,
    "data": {"count": 1500, "val_share": 0.2, "erase_prob": 0.6, "erase_area": (0.05, 0.25)},
    "sampler": {"num_pids": 5, "num_instances": 8},
    "model": {"width": 24, "feat_dim": 48, "num_classes": 10},
    "loss": {"margin": 0.3, "epsilon": 0.1, "id_weight": 1.0, "triplet_weight": 1.0},
    "solver": {"base_lr": 2e-3, "weight_decay": 5e-4, "max_epochs": 12, "warmup_epochs": 2, "milestones": (8, 10), "gamma": 0.3},
}


class RandomErasing:
    def __init__(self, probability, area_range):
        self.probability, self.area_range = probability, area_range

    def __call__(self, img):
        if random.random() >= self.probability:
            return img
        size = img.shape[-1]
        area = random.uniform(*self.area_range) * size * size
        side = min(max(int(math.sqrt(area)), 1), size)
        top, left = random.randint(0, size - side), random.randint(0, size - side)
        img = img.clone()
        img[:, top : top + side, left : left + side] = 0.0
        return img


class ImageDataset(Dataset):
    def __init__(self, images, pids, transform=None):
        self.images, self.pids, self.transform = images, pids, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        img = self.images[index]
        return (self.transform(img) if self.transform else img), int(self.pids[index])


def split_indices(split):
    """The part of the images that belongs to `train` or `val`."""
    count = cfg["data"]["count"]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(cfg["seed"]))
    held_out = int(count * cfg["data"]["val_share"])
    return order[:held_out] if split == "val" else order[held_out:]


class RandomIdentitySampler(Sampler):
    """Batches of P identities with K images each."""

    def __init__(self, pids, num_pids, num_instances):
        self.num_pids, self.num_instances = num_pids, num_instances
        self.index = defaultdict(list)
        for i, pid in enumerate(pids.tolist()):
            self.index[pid].append(i)
        self.pids = sorted(self.index)
        self.length = len(pids) // (num_pids * num_instances)

    def __iter__(self):
        for _ in range(self.length):
            selected = random.sample(self.pids, self.num_pids)
            batch = []
            for pid in selected:
                batch += random.sample(self.index[pid], self.num_instances)
            yield batch

    def __len__(self):
        return self.length


class Baseline(nn.Module):
    def __init__(self, width, feat_dim, num_classes):
        super().__init__()
        self.base = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, 1, 1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * width * 16, feat_dim),
        )
        self.bottleneck = nn.BatchNorm1d(feat_dim)
        self.classifier = nn.Linear(feat_dim, num_classes, bias=False)

    def forward(self, x):
        global_feat = self.base(x)
        feat = self.bottleneck(global_feat)
        if self.training:
            return self.classifier(feat), global_feat
        return feat


class TripletLoss:
    def __init__(self, margin):
        self.ranking_loss = nn.MarginRankingLoss(margin=margin)

    def __call__(self, global_feat, labels):
        feat = F.normalize(global_feat, dim=1)
        dist = (2 - 2 * feat @ feat.t()).clamp(min=1e-6).sqrt()
        same = labels[:, None] == labels[None, :]
        dist_ap = dist.masked_fill(~same, -1.0).max(dim=1).values
        dist_an = dist.masked_fill(same, 10.0).min(dim=1).values
        return self.ranking_loss(dist_an, dist_ap, torch.ones_like(dist_an))


class CrossEntropyLabelSmooth(nn.Module):
    def __init__(self, num_classes, epsilon):
        super().__init__()
        self.num_classes, self.epsilon = num_classes, epsilon

    def forward(self, score, targets):
        log_probs = F.log_softmax(score, dim=1)
        one_hot = F.one_hot(targets, self.num_classes).float()
        smooth = (1 - self.epsilon) * one_hot + self.epsilon / self.num_classes
        return (-smooth * log_probs).sum(1).mean()


def warmup_multistep(epoch):
    solver = cfg["solver"]
    warm = min(1.0, (epoch + 1) / solver["warmup_epochs"])
    return warm * solver["gamma"] ** sum(epoch >= m for m in solver["milestones"])


@torch.no_grad()
def evaluate(model, val_loader):
    model.eval()
    feats, pids = [], []
    for img, pid in val_loader:
        feats.append(F.normalize(model(img), dim=1))
        pids.append(pid)
    feats, pids = torch.cat(feats), torch.cat(pids)
    similarity = feats @ feats.t()
    similarity.fill_diagonal_(-2.0)
    ranks = similarity.argsort(dim=1, descending=True)[:, :-1]
    matches = (pids[ranks] == pids[:, None]).float()
    precision = matches.cumsum(1) / torch.arange(1, matches.shape[1] + 1)
    average = (precision * matches).sum(1) / matches.sum(1).clamp(min=1)
    return matches[:, 0].mean().item(), average.mean().item()


def do_train():
    images, pids = draw_digits(cfg["data"]["count"], seed=cfg["seed"])
    images = (images.float() / 255 - 0.15) / 0.3
    idx_train, idx_val = split_indices("train"), split_indices("val")
    erase = RandomErasing(cfg["data"]["erase_prob"], cfg["data"]["erase_area"])
    train_set = ImageDataset(images[idx_train], pids[idx_train], erase)
    val_set = ImageDataset(images[idx_val], pids[idx_val])
    train_loader = DataLoader(train_set, batch_sampler=RandomIdentitySampler(train_set.pids, **cfg["sampler"]))
    val_loader = DataLoader(val_set, batch_size=100)

    model = Baseline(**cfg["model"])
    solver, weights = cfg["solver"], cfg["loss"]
    optimizer = torch.optim.Adam(model.parameters(), lr=solver["base_lr"], weight_decay=solver["weight_decay"])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_multistep)
    xent = CrossEntropyLabelSmooth(cfg["model"]["num_classes"], weights["epsilon"])
    triplet = TripletLoss(weights["margin"])

    for epoch in range(solver["max_epochs"]):
        model.train()
        running = 0.0
        for img, target in train_loader:
            optimizer.zero_grad()
            score, feat = model(img)
            loss = weights["id_weight"] * xent(score, target) + weights["triplet_weight"] * triplet(feat, target)
            loss.backward()
            optimizer.step()
            running += loss.item()
        scheduler.step()
        rank1, mean_ap = evaluate(model, val_loader)
        print(f"Epoch[{epoch}] Loss: {running / len(train_loader):.3f}  Rank-1: {rank1:.1%}  mAP: {mean_ap:.1%}")


def main():
    random.seed(cfg["seed"])
    torch.manual_seed(cfg["seed"])
    do_train()


if __name__ == "__main__":
    main()
