# Supervised contrastive embeddings of digits, evaluated by retrieval (recall@k).
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

import toydata


@dataclass
class Config:
    classes_per_batch: int = 8
    images_per_class: int = 8
    batches_per_epoch: int = 25
    epochs: int = 8
    embedding_dim: int = 16
    temperature: float = 0.1
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    seed: int = 3


class DigitImages(Dataset):
    def __init__(self, count, seed, augment=False):
        images, self.labels = toydata.draw_digits(count, seed=seed)
        self.images = (images.float() / 255 - 0.17) / 0.30
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.augment:
            dy, dx = np.random.randint(-1, 2, size=2)
            image = torch.roll(image, (int(dy), int(dx)), dims=(1, 2))
            image = image + 0.1 * torch.randn_like(image)
        return image, self.labels[i]


class PKSampler(Sampler):
    """P classes with K images each."""

    def __init__(self, labels, p, k, batches):
        self.p, self.k, self.batches = p, k, batches
        self.num_classes = int(labels.max()) + 1
        self.by_class = [torch.nonzero(labels == c).flatten() for c in range(self.num_classes)]

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(self.num_classes)[: self.p].tolist():
                members = self.by_class[c]
                batch += members[torch.randperm(len(members))[: self.k]].tolist()
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(),
        )
        self.project = nn.Linear(64, dim)

    def forward(self, x):
        z = self.project(self.encoder(x))
        return F.normalize(z, dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, z, labels):
        logits = z @ z.t() / self.temperature
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        logits = logits.masked_fill(itself, -1e9)
        log_prob = logits - torch.logsumexp(logits, dim=1, keepdim=True)
        same = labels[:, None] == labels[None, :]
        positives = (same & ~itself).float()
        per_anchor = (log_prob * positives).sum(1) / positives.sum(1)
        return -per_anchor.mean()


@torch.no_grad()
def embed(model, dataset):
    model.eval()
    vectors, labels = [], []
    for images, y in DataLoader(dataset, batch_size=100):
        vectors.append(model(images))
        labels.append(y)
    return torch.cat(vectors), torch.cat(labels)


def recall_at(model, queries, gallery, ks=(1, 5)):
    q, q_labels = embed(model, queries)
    g, g_labels = embed(model, gallery)
    order = (q @ g.t()).argsort(dim=1, descending=True)
    hits = g_labels[order] == q_labels[:, None]
    recalls = {k: hits[:, :k].any(dim=1).float().mean().item() for k in ks}
    r = int(torch.bincount(g_labels).min())
    return recalls, hits[:, :r].float().mean().item()


def run(cfg):
    np.random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    train_set = DigitImages(1200, seed=100, augment=True)
    gallery, queries = DigitImages(300, seed=200), DigitImages(200, seed=300)
    sampler = PKSampler(train_set.labels, cfg.classes_per_batch, cfg.images_per_class, cfg.batches_per_epoch)
    loader = DataLoader(train_set, batch_sampler=sampler)

    model = EmbeddingNet(cfg.embedding_dim)
    criterion = SupConLoss(cfg.temperature)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay
    )
    steps = cfg.epochs * cfg.batches_per_epoch
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

    for epoch in range(1, cfg.epochs + 1):
        model.train()
        running = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        recalls, precision = recall_at(model, queries, gallery)
        print(
            f"epoch {epoch}: loss {running / len(loader):.3f} "
            f"R@1 {recalls[1]:.3f} R@5 {recalls[5]:.3f} R-precision {precision:.3f}"
        )


if __name__ == "__main__":
    run(Config())
