"""Metric learning: digits are embedded so that the nearest neighbor is the same digit (triplet loss)."""

import copy
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


@dataclass
class Config:
    train_count: int = 2000
    eval_count: int = 400
    batch_size: int = 32
    epochs: int = 20
    lr: float = 1e-3
    weight_decay: float = 1e-4
    embedding_dim: int = 32
    margin: float = 0.5
    seed: int = 3


class TripletDataset(Dataset):
    """An anchor, another image of its class, and an image of another class."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels.tolist()
        self.by_class = {}
        for index, label in enumerate(self.labels):
            self.by_class.setdefault(label, []).append(index)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        label = self.labels[index]
        positive = index
        while positive == index:
            positive = random.choice(self.by_class[label])
        other = random.choice([name for name in self.by_class if name != label])
        negative = random.choice(self.by_class[other])
        return self.images[index], self.images[positive], self.images[negative]


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, dim))

    def forward(self, images):
        return F.normalize(self.embed(self.features(images)), dim=1)


class MetricTrainer:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=config.epochs)
        self.best_recall = -1.0
        self.best_epoch, self.best_weights = None, None

    def triplet_loss(self, anchor, positive, negative):
        return F.triplet_margin_loss(anchor, positive, negative, margin=self.config.margin)

    def train_epoch(self, loader):
        self.model.train()
        loss_sum, count = 0.0, 0
        for batch in loader:
            anchor, positive, negative = batch
            embeddings = self.model(torch.cat([anchor, positive, negative]))
            loss = self.triplet_loss(*embeddings.chunk(3))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.item() * len(anchor)
            count += len(anchor)
        return loss_sum / count

    @torch.no_grad()
    def embed(self, images):
        self.model.eval()
        return torch.cat([self.model(part) for part in images.split(200)])

    def recall_at_1(self, images, labels):
        """How often the nearest other image is of the same class."""
        embeddings = self.embed(images)
        similarity = embeddings @ embeddings.T
        similarity.fill_diagonal_(-2.0)
        nearest = similarity.argmax(dim=1)
        return (labels[nearest] == labels).float().mean().item()

    def fit(self, loader, val_images, val_labels):
        for epoch in range(1, self.config.epochs + 1):
            loss = self.train_epoch(loader)
            self.scheduler.step()
            recall = self.recall_at_1(val_images, val_labels)
            mark = ""
            if recall > self.best_recall:
                self.best_recall, self.best_epoch = recall, epoch
                self.best_weights = copy.deepcopy(self.model.state_dict())
                mark = " *"
            print(f"epoch {epoch:2d}: triplet loss {loss:.4f}, validation recall@1 {recall:.4f}{mark}")
        self.model.load_state_dict(self.best_weights)


def main(config):
    random.seed(config.seed)
    torch.manual_seed(config.seed)

    train_images, train_labels = draw_digits(config.train_count, seed=0)
    val_images, val_labels = draw_digits(config.eval_count, seed=1)
    test_images, test_labels = draw_digits(config.eval_count, seed=2)
    train_images = train_images.float() / 255
    mean, std = train_images.mean(), train_images.std()
    train_images = (train_images - mean) / std
    val_images = (val_images.float() / 255 - mean) / std
    test_images = (test_images.float() / 255 - mean) / std

    loader = DataLoader(TripletDataset(train_images, train_labels), config.batch_size, shuffle=True, drop_last=True)
    trainer = MetricTrainer(EmbeddingNet(config.embedding_dim), config)
    trainer.fit(loader, val_images, val_labels)
    recall = trainer.recall_at_1(test_images, test_labels)
    print(f"kept epoch {trainer.best_epoch}, test recall@1 {recall:.4f}")


if __name__ == "__main__":
    main(Config())
