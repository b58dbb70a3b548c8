# Metric learning on colored shapes: batch-all triplets, P x K batches, retrieval instead of a classifier.
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler

import toydata


@dataclass
class Config:
    classes_per_batch: int = 4
    samples_per_class: int = 12
    batches: int = 18
    epochs: int = 14
    margin: float = 0.3
    dim: int = 32
    lr: float = 2e-3
    seed: int = 7


class PKSampler(Sampler):
    """P of the classes, K different samples of each, one class after the other."""

    def __init__(self, targets, cfg):
        self.targets, self.cfg = torch.as_tensor(targets), cfg
        self.members = [torch.nonzero(self.targets == c).flatten() for c in self.targets.unique()]

    def __iter__(self):
        for _ in range(self.cfg.batches):
            for c in torch.randperm(len(self.members))[: self.cfg.classes_per_batch].tolist():
                rows = self.members[c]
                yield from rows[torch.randperm(len(rows))[: self.cfg.samples_per_class]].tolist()

    def __len__(self):
        return self.cfg.batches * self.cfg.classes_per_batch * self.cfg.samples_per_class


def normalize(image):
    return (image - 0.5) / 0.2


def mirrored(image):
    # squares, discs and crosses are what they were, mirrored or upside down
    axes = [axis for axis in (1, 2) if torch.rand(()) < 0.5]
    return normalize(image.flip(axes) if axes else image)


class Embedder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        layers, width = [], 3
        for i, out in enumerate((24, 48, 64)):
            layers += [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            if i < 2:
                layers.append(nn.MaxPool2d(2))
            width = out
        self.trunk = nn.Sequential(*layers)
        self.project = nn.Linear(width, dim)

    def forward(self, x):
        x = self.trunk(x)
        x = x.mean((2, 3)) + x.amax((2, 3))
        return F.normalize(self.project(x), dim=1)


def triplet_loss(embeddings, labels, margin):
    similarity = embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    # [anchor, positive, negative]
    valid = positive[:, :, None] & ~same[:, None, :]
    distance = 2 - 2 * similarity
    violation = F.relu(distance[:, :, None] - distance[:, None, :] + margin)
    active = valid & (violation > 0)
    loss = (violation * valid).sum() / active.sum().clamp(min=1)
    return loss, active.sum() / valid.sum()


@torch.inference_mode()
def embed(model, dataset):
    model.eval()
    batches = [(model(images), targets) for images, targets in DataLoader(dataset, batch_size=128)]
    return torch.cat([e for e, _ in batches]), torch.cat([t for _, t in batches])


def recall_at_1(queries, query_labels, gallery, gallery_labels):
    nearest = (queries @ gallery.T).argmax(dim=1)
    return (gallery_labels[nearest] == query_labels).float().mean().item()


def run(cfg):
    torch.manual_seed(cfg.seed)
    train_set = toydata.Shapes(train=True, transform=mirrored)
    gallery_set = toydata.Shapes(train=True, transform=normalize)
    query_set = toydata.Shapes(train=False, transform=normalize)
    loader = DataLoader(
        train_set,
        batch_size=cfg.classes_per_batch * cfg.samples_per_class,
        sampler=PKSampler(train_set.targets, cfg),
    )
    model = Embedder(cfg.dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [9, 12], gamma=0.3)

    for epoch in range(1, cfg.epochs + 1):
        model.train()
        losses, hard = [], []
        for images, labels in loader:
            loss, share = triplet_loss(model(images), labels, cfg.margin)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            hard.append(share)
        scheduler.step()
        # the mean over violations alone stays high to the end; their share is what falls
        print(f"{epoch:3d}  loss {torch.stack(losses).mean():.4f}  violations {torch.stack(hard).mean():.2%}", end="")
        if epoch % 2 == 0:
            gallery, gallery_labels = embed(model, gallery_set)
            queries, query_labels = embed(model, query_set)
            print(f"  recall@1 {recall_at_1(queries, query_labels, gallery, gallery_labels):.3f}", end="")
        print()


if __name__ == "__main__":
    run(Config())
