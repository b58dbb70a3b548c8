"""Embeddings of digits: batches of P classes with K images each, all triplets of a batch, nearest neighbors."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

import toydata


@dataclass
class Config:
    classes_per_batch: int = 8
    images_per_class: int = 6
    batches_per_epoch: int = 24
    epochs: int = 12
    embedding: int = 32
    scale: float = 8.0
    lr: float = 2e-3
    seed: int = 11


class PKSampler(Sampler):
    def __init__(self, labels, p, k, batches, seed):
        self.rows = [torch.where(labels == label)[0] for label in labels.unique()]
        self.p, self.k, self.batches = p, k, batches
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for label in torch.randperm(len(self.rows), generator=self.generator)[: self.p].tolist():
                rows = self.rows[label]
                batch += rows[torch.randperm(len(rows), generator=self.generator)[: self.k]].tolist()
            yield batch


class Embedder(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.out = nn.Linear(64 * 16, size)

    def forward(self, x):
        return F.normalize(self.out(self.body(x)), dim=1)


def triplet_loss(embeddings, labels, scale):
    similarity = embeddings @ embeddings.T
    distance = 2 - 2 * similarity
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool)
    positive, negative = same & ~itself, ~same
    gap = distance[:, :, None] - distance[:, None, :]
    valid = positive[:, :, None] & negative[:, None, :]
    return F.softplus(scale * gap)[valid].mean()


@torch.no_grad()
def embed(model, images):
    model.eval()
    return torch.cat([model(part) for part in images.split(200)])


def recall_at_one(model, gallery, gallery_labels, queries, query_labels):
    nearest = (embed(model, queries) @ embed(model, gallery).T).argmax(dim=1)
    return (gallery_labels[nearest] == query_labels).float().mean().item()


def knn_vote(model, gallery, gallery_labels, queries, query_labels, k=9):
    closest = (embed(model, queries) @ embed(model, gallery).T).topk(k, dim=1).indices
    votes = F.one_hot(gallery_labels[closest], 10).sum(dim=1)
    return (votes.argmax(dim=1) == query_labels).float().mean().item()


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    torch.set_num_threads(1)
    train_set, test_set = toydata.Digits(train=True), toydata.Digits(train=False)
    mean, std = train_set.data.float().mean(), train_set.data.float().std()
    x_train, y_train = (train_set.data.float() - mean) / std, train_set.targets
    x_test, y_test = (test_set.data.float() - mean) / std, test_set.targets

    sampler = PKSampler(y_train, cfg.classes_per_batch, cfg.images_per_class, cfg.batches_per_epoch, cfg.seed)
    loader = DataLoader(TensorDataset(x_train, y_train), batch_sampler=sampler)
    model = Embedder(cfg.embedding)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / cfg.epochs)

    for epoch in range(cfg.epochs):
        model.train()
        losses = []
        for images, labels in loader:
            optimizer.zero_grad()
            loss = triplet_loss(model(images), labels, cfg.scale)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        schedule.step()
        print(f"epoch {epoch}: triplet loss {torch.stack(losses).mean():.4f}")

    print(f"recall@1 {recall_at_one(model, x_train, y_train, x_test, y_test):.3f}")
    print(f"9 neighbors {knn_vote(model, x_train, y_train, x_test, y_test):.3f}")


if __name__ == "__main__":
    main()
