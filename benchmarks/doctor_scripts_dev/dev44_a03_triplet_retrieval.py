"""Deep metric learning on digits: batch-all triplets, Recall@K on held-out images."""
from dataclasses import dataclass, field
from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import draw_digits


@dataclass
class Config:
    embedding_dim: int = 32
    widths: List[int] = field(default_factory=lambda: [16, 32, 64])
    margin: float = 0.3
    classes_per_batch: int = 8
    samples_per_class: int = 6
    iterations_per_epoch: int = 25
    epochs: int = 7
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    erase_size: int = 3
    seed: int = 11


class DigitImages(Dataset):
    def __init__(self, count: int, seed: int, erase_size: int = 0):
        images, self.labels = draw_digits(count, seed=seed, noise=0.2)
        self.images = (images.float() / 255 - 0.2) / 0.3
        self.erase_size = erase_size

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        image = self.images[i].clone()
        if self.erase_size:
            side = image.shape[-1]
            top, left = torch.randint(0, side - self.erase_size + 1, (2,)).tolist()
            image[:, top : top + self.erase_size, left : left + self.erase_size] = 0
        return image, self.labels[i]


class ClassBalancedBatches(Sampler):
    """Batches of P classes with K images of each."""

    def __init__(self, labels: Tensor, p: int, k: int, iterations: int):
        self.by_class = [torch.where(labels == c)[0] for c in labels.unique()]
        self.p, self.k, self.iterations = p, k, iterations

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self):
        for _ in range(self.iterations):
            batch = []
            for c in torch.randperm(len(self.by_class))[: self.p].tolist():
                members = self.by_class[c]
                batch += members[torch.randperm(len(members))[: self.k]].tolist()
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        sizes = [1] + cfg.widths
        self.stages = nn.ModuleList([self.stage(a, b) for a, b in zip(sizes[:-1], sizes[1:])])
        self.project = nn.Linear(cfg.widths[-1] * 4, cfg.embedding_dim)

    @staticmethod
    def stage(c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return F.normalize(self.project(x.flatten(1)), dim=1)


def triplet_loss(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    distances = 2 - 2 * embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    valid = positive[:, :, None] & ~same[:, None, :]
    to_positive, to_negative = distances[:, :, None], distances[:, None, :]
    hinge = F.relu(to_positive - to_negative + margin)[valid]
    return hinge.sum() / (hinge > 0).sum().clamp(min=1)


@torch.no_grad()
def recall_at(model: nn.Module, loader: DataLoader, ks=(1, 5)) -> dict:
    model.eval()
    embeddings, labels = zip(*[(model(x), y) for x, y in loader])
    embeddings, labels = torch.cat(embeddings), torch.cat(labels)
    similarity = embeddings @ embeddings.T
    similarity.fill_diagonal_(-2)
    ranked = labels[similarity.topk(max(ks), dim=1).indices]
    hits = ranked == labels[:, None]
    return {k: hits[:, :k].any(dim=1).float().mean().item() for k in ks}


def run(cfg: Config) -> None:
    torch.manual_seed(cfg.seed)
    train_set = DigitImages(1000, seed=0, erase_size=cfg.erase_size)
    test_set = DigitImages(300, seed=1)
    batches = ClassBalancedBatches(
        train_set.labels, cfg.classes_per_batch, cfg.samples_per_class, cfg.iterations_per_epoch
    )
    train_loader = DataLoader(train_set, batch_sampler=batches)
    test_loader = DataLoader(test_set, batch_size=100)

    model = EmbeddingNet(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs)
    print("before training:", recall_at(model, test_loader))
    for epoch in range(cfg.epochs):
        model.train()
        total = 0.0
        for images, labels in train_loader:
            loss = triplet_loss(model(images), labels, cfg.margin)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        recalls = recall_at(model, test_loader)
        print(f"epoch {epoch}: loss {total / len(train_loader):.4f} R@1 {recalls[1]:.3f} R@5 {recalls[5]:.3f}")


if __name__ == "__main__":
    run(Config())
