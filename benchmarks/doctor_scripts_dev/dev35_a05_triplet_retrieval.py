"""Learns embeddings of noisy digits with triplets and looks up the nearest neighbors of held-out images."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


@dataclass
class Config:
    n_samples: int = 1500
    n_train: int = 1200
    n_test: int = 300
    noise: float = 0.25
    channels: tuple = (1, 16, 32, 64)
    embedding_dim: int = 32
    margin: float = 0.3
    batch_size: int = 64
    epochs: int = 12
    lr: float = 2e-3
    milestones: tuple = (8, 11)
    seed: int = 3


class TripletDataset(Dataset):
    """An anchor, another image of its class, and an image of any other class."""

    def __init__(self, images, labels, rng):
        self.images, self.labels, self.rng = images, labels.numpy(), rng
        self.by_class = {int(c): np.flatnonzero(self.labels == c) for c in np.unique(self.labels)}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        label = int(self.labels[i])
        positive = i
        while positive == i:
            positive = int(self.rng.choice(self.by_class[label]))
        other = int(self.rng.choice([c for c in self.by_class if c != label]))
        negative = int(self.rng.choice(self.by_class[other]))
        return self.images[i], self.images[positive], self.images[negative]


class ConvBlock(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size=3, padding=1)

    def forward(self, x):
        return F.max_pool2d(F.relu(self.conv(x)), 2)


class EmbeddingNet(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        pairs = list(zip(cfg.channels[:-1], cfg.channels[1:]))
        self.blocks = nn.ModuleList([ConvBlock(c_in, c_out) for c_in, c_out in pairs])
        self.head = nn.Linear(cfg.channels[-1] * 2 * 2, cfg.embedding_dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.head(x.flatten(1)), dim=1)


def build_data(cfg: Config):
    images, labels = draw_digits(cfg.n_samples, seed=cfg.seed, noise=cfg.noise)
    images = images.float() / 255
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(cfg.seed))
    idx_train, idx_test = order[: cfg.n_train], order[-cfg.n_test :]
    mean, std = images[idx_train].mean(), images[idx_train].std()
    images = (images - mean) / std
    return (images[idx_train], labels[idx_train]), (images[idx_test], labels[idx_test])


@torch.no_grad()
def embed(net, images, batch_size=100):
    net.eval()
    return torch.cat([net(part) for part in images.split(batch_size)])


def retrieval_metrics(embeddings, labels):
    """Recall@1 and mean average precision; each image is looked up among all others."""
    similarity = embeddings @ embeddings.T
    similarity.fill_diagonal_(-float("inf"))
    ranking = similarity.argsort(dim=1, descending=True)[:, :-1]
    hits = (labels[ranking] == labels[:, None]).float()
    recall_at_1 = hits[:, 0].mean().item()
    precision = hits.cumsum(dim=1) / torch.arange(1, hits.size(1) + 1)
    mean_ap = ((precision * hits).sum(dim=1) / hits.sum(dim=1)).mean().item()
    return recall_at_1, mean_ap


class Experiment:
    def __init__(self, cfg: Config):
        self.cfg = cfg
        torch.manual_seed(cfg.seed)
        (train_x, train_y), (self.test_x, self.test_y) = build_data(cfg)
        triplets = TripletDataset(train_x, train_y, np.random.default_rng(cfg.seed))
        self.loader = DataLoader(triplets, batch_size=cfg.batch_size, shuffle=True)
        self.net = EmbeddingNet(cfg)
        self.criterion = nn.TripletMarginLoss(margin=cfg.margin)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=cfg.lr)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, cfg.milestones, gamma=0.3)

    def run_epoch(self):
        self.net.train()
        losses = []
        for anchor, positive, negative in self.loader:
            f_anchor, f_positive, f_negative = self.net(anchor), self.net(positive), self.net(negative)
            loss = self.criterion(f_anchor, f_positive, f_negative)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.scheduler.step()
        return float(np.mean(losses))

    def evaluate(self):
        return retrieval_metrics(embed(self.net, self.test_x), self.test_y)

    def run(self):
        recall, mean_ap = self.evaluate()
        print(f"untrained: R@1 {recall:.3f} mAP {mean_ap:.3f}")
        for epoch in range(self.cfg.epochs):
            loss = self.run_epoch()
            recall, mean_ap = self.evaluate()
            print(f"[{epoch + 1:2d}/{self.cfg.epochs}] loss {loss:.4f} R@1 {recall:.3f} mAP {mean_ap:.3f}")
        return recall, mean_ap


if __name__ == "__main__":
    final_recall, final_map = Experiment(Config()).run()
    print(f"final R@1 {final_recall:.3f} mAP {final_map:.3f}")
