"""Metric learning for retrieval, in the manner of re-identification research code (batch-hard triplets + ID loss)."""
import copy
import random
from collections import defaultdict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.data.sampler import Sampler

from toydata import Digits

CONFIG = {
    "seed": 1,
    "data": {"pixel_mean": 0.2, "pixel_std": 0.3, "num_ids": 10},
    "sampler": {"ids_per_batch": 8, "num_instances": 6},
    "model": {"feat_dim": 64, "width": 24},
    "loss": {"margin": 0.3, "triplet_weight": 1.0, "id_weight": 0.5, "label_smooth": 0.1},
    "solver": {"lr": 2e-3, "weight_decay": 5e-4, "epochs": 8, "steps": [5, 7], "gamma": 0.3},
    "test": {"batch_size": 100},
}


def build_transform(cfg, is_train):
    mean, std = cfg["pixel_mean"], cfg["pixel_std"]

    def transform(image):
        image = image.float() / 255
        if is_train:
            image = (image + 0.05 * torch.randn_like(image)).clamp(0, 1)
        return (image - mean) / std

    return transform


class RandomIdentitySampler(Sampler):
    """Draws P identities and K instances of each for every batch."""

    def __init__(self, labels, ids_per_batch, num_instances):
        self.index_dic = defaultdict(list)
        for index, pid in enumerate(labels):
            self.index_dic[int(pid)].append(index)
        self.pids = sorted(self.index_dic)
        self.ids_per_batch, self.num_instances = ids_per_batch, num_instances
        self.num_batches = len(labels) // (ids_per_batch * num_instances)

    def __iter__(self):
        for _ in range(self.num_batches):
            batch = []
            for pid in random.sample(self.pids, self.ids_per_batch):
                batch.extend(np.random.choice(self.index_dic[pid], size=self.num_instances, replace=False).tolist())
            yield batch

    def __len__(self):
        return self.num_batches


class EmbeddingNet(nn.Module):
    def __init__(self, num_ids, feat_dim, width):
        super().__init__()
        self.base = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
        )
        self.fc = nn.Linear(2 * width * 16, feat_dim)
        self.bottleneck = nn.BatchNorm1d(feat_dim)
        self.classifier = nn.Linear(feat_dim, num_ids, bias=False)

    def forward(self, x):
        feat = self.fc(self.base(x).flatten(1))
        embedding = F.normalize(feat, dim=1)
        if not self.training:
            return embedding
        return embedding, self.classifier(self.bottleneck(feat))


def euclidean_dist(x, y):
    sq = x.pow(2).sum(1, keepdim=True) + y.pow(2).sum(1, keepdim=True).t() - 2 * x @ y.t()
    return sq.clamp(min=1e-12).sqrt()


def hard_example_mining(dist, labels):
    is_pos = labels[:, None].eq(labels[None, :])
    dist_ap = dist.masked_fill(~is_pos, -1.0).max(dim=1).values
    dist_an = dist.masked_fill(is_pos, 1e6).min(dim=1).values
    return dist_ap, dist_an


class TripletLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.ranking_loss = nn.MarginRankingLoss(margin=margin)

    def forward(self, feat, labels):
        dist_ap, dist_an = hard_example_mining(euclidean_dist(feat, feat), labels)
        y = torch.ones_like(dist_an)
        loss = self.ranking_loss(dist_an, dist_ap, y)
        return loss, (dist_an > dist_ap).float().mean()


class ReIDLoss(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.triplet = TripletLoss(cfg["margin"])
        self.xent = nn.CrossEntropyLoss(label_smoothing=cfg["label_smooth"])

    def forward(self, embedding, logits, pids):
        triplet, precision = self.triplet(embedding, pids)
        id_loss = self.xent(logits, pids)
        return self.cfg["triplet_weight"] * triplet + self.cfg["id_weight"] * id_loss, precision


def do_train(model, loader, optimizer, criterion):
    model.train()
    running, precisions = 0.0, 0.0
    for images, pids in loader:
        embedding, logits = model(images)
        loss, precision = criterion(embedding, logits, pids)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        running += loss.item()
        precisions += precision.item()
    return running / len(loader), precisions / len(loader)


@torch.no_grad()
def do_inference(model, loader):
    """Each test image is a query against all others: rank-1 and mean average precision."""
    model.eval()
    feats, pids = zip(*[(model(images), pids) for images, pids in loader])
    feats, pids = torch.cat(feats), torch.cat(pids)
    dist = euclidean_dist(feats, feats)
    dist.fill_diagonal_(float("inf"))
    order = dist.argsort(dim=1)[:, :-1]
    matches = pids[order].eq(pids[:, None]).float()
    rank1 = matches[:, 0].mean().item()
    positions = torch.arange(1, matches.shape[1] + 1)
    precision = matches.cumsum(1) / positions
    ap = (precision * matches).sum(1) / matches.sum(1).clamp(min=1)
    return rank1, ap.mean().item()


def main():
    cfg = CONFIG
    torch.manual_seed(cfg["seed"])
    random.seed(cfg["seed"])
    np.random.seed(cfg["seed"])
    train_set = Digits(train=True, transform=build_transform(cfg["data"], is_train=True))
    query_set = Digits(train=False, transform=build_transform(cfg["data"], is_train=False))
    sampler = RandomIdentitySampler(train_set.targets.tolist(), **cfg["sampler"])
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    query_loader = DataLoader(query_set, batch_size=cfg["test"]["batch_size"], shuffle=False)
    model = EmbeddingNet(cfg["data"]["num_ids"], **cfg["model"])
    criterion = ReIDLoss(cfg["loss"])
    solver = cfg["solver"]
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(params, lr=solver["lr"], weight_decay=solver["weight_decay"])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, solver["steps"], gamma=solver["gamma"])
    best_map, best_weights = 0.0, None
    for epoch in range(1, solver["epochs"] + 1):
        loss, precision = do_train(model, train_loader, optimizer, criterion)
        scheduler.step()
        rank1, mean_ap = do_inference(model, query_loader)
        print(f"epoch {epoch}: loss {loss:.3f}, triplet precision {precision:.3f}, rank-1 {rank1:.3f}, mAP {mean_ap:.3f}")
        if mean_ap > best_map:
            best_map, best_weights = mean_ap, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    print("best mAP %.3f" % best_map)


if __name__ == "__main__":
    main()
