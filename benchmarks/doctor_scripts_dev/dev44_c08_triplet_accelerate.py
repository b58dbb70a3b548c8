"""Embeddings of shapes, learned from triplets; retrieval is scored by recall@1."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Sampler

from toydata import Shapes


@dataclass
class Config:
    classes_per_batch: int = 6
    samples_per_class: int = 8
    epochs: int = 8
    embedding_dim: int = 32
    margin: float = 0.3
    lr: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 3


class PKSampler(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, labels, p, k, seed):
        self.labels = torch.as_tensor(labels)
        self.p, self.k = p, k
        self.generator = torch.Generator().manual_seed(seed)
        self.pools = [torch.nonzero(self.labels == c).flatten() for c in self.labels.unique()]

    def __len__(self):
        return len(self.labels) // (self.p * self.k)

    def __iter__(self):
        shuffled = [pool[torch.randperm(len(pool), generator=self.generator)] for pool in self.pools]
        for b in range(len(self)):
            chosen = torch.randperm(len(self.pools), generator=self.generator)[: self.p]
            batch = []
            for c in chosen.tolist():
                places = torch.arange(b * self.k, (b + 1) * self.k) % len(shuffled[c])
                batch += shuffled[c][places].tolist()
            yield batch


class Embedder(nn.Module):
    def __init__(self, dim):
        super().__init__()

        def stage(cin, cout):
            return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU())

        self.features = nn.Sequential(
            stage(3, 24), nn.MaxPool2d(2), stage(24, 48), stage(48, 48), nn.MaxPool2d(2), stage(48, 64),
        )
        self.head = nn.Linear(64, dim)

    def forward(self, x):
        pooled = self.features(x).amax(dim=(2, 3))
        return F.normalize(self.head(pooled), dim=1)


def batch_all_triplet_loss(z, labels, margin):
    same = labels[:, None] == labels[None, :]
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    valid = (same & others)[:, :, None] & ~same[:, None, :]
    distance = 2 - 2 * z @ z.T
    violation = distance[:, :, None] - distance[:, None, :] + margin
    violation = torch.relu(violation) * valid
    active = (violation > 1e-8).sum().clamp(min=1)
    return violation.sum() / active


def normalize(image):
    return (image - 0.5) / 0.2


@torch.no_grad()
def embed(model, dataset, device):
    model.eval()
    loader = DataLoader(dataset, batch_size=100)
    pairs = [(model(x.to(device)).cpu(), y) for x, y in loader]
    return torch.cat([z for z, _ in pairs]), torch.cat([y for _, y in pairs])


def recall_at_1(queries, query_labels, gallery, gallery_labels):
    nearest = (queries @ gallery.T).argmax(dim=1)
    return (gallery_labels[nearest] == query_labels).float().mean().item()


def main(config):
    set_seed(config.seed)
    accelerator = Accelerator(cpu=True)
    train_set, val_set = Shapes(train=True, transform=normalize), Shapes(train=False, transform=normalize)
    sampler = PKSampler(train_set.targets, config.classes_per_batch, config.samples_per_class, config.seed)
    train_loader = DataLoader(train_set, batch_sampler=sampler)

    model = Embedder(config.embedding_dim)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    model, optimizer = accelerator.prepare(model, optimizer)

    for epoch in range(config.epochs):
        model.train()
        total = torch.zeros(())
        for images, labels in train_loader:
            images, labels = images.to(accelerator.device), labels.to(accelerator.device)
            loss = batch_all_triplet_loss(model(images), labels, config.margin)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            total += loss.detach().cpu()
        gallery, gallery_labels = embed(model, train_set, accelerator.device)
        queries, query_labels = embed(model, val_set, accelerator.device)
        score = recall_at_1(queries, query_labels, gallery, gallery_labels)
        accelerator.print(f"epoch {epoch + 1}: loss {total.item() / len(train_loader):.4f}  recall@1 {score:.3f}")


if __name__ == "__main__":
    main(Config())
