"""Metric learning on digits: triplets, embeddings on the sphere, judged by their nearest neighbors."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


@dataclass
class Config:
    seed: int = 3
    num_train: int = 1000
    num_val: int = 250
    num_test: int = 250
    embed_dim: int = 32
    width: int = 16
    margin: float = 0.4
    batch_size: int = 40
    epochs: int = 10
    lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 80
    k: int = 5


def make_splits(cfg):
    images, labels = draw_digits(cfg.num_train + cfg.num_val + cfg.num_test, seed=cfg.seed)
    images = (images.float() / 255 - 0.17) / 0.30
    perm = torch.randperm(len(images))
    images, labels = images[perm], labels[perm]
    sizes = [cfg.num_train, cfg.num_val, cfg.num_test]
    return list(zip(images.split(sizes), labels.split(sizes)))


class TripletDataset(Dataset):
    """Each image once as anchor, with a random image of its class and one of another class."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels.tolist()
        self.members = {c: [i for i, label in enumerate(self.labels) if label == c] for c in set(self.labels)}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        label = self.labels[index]
        same = self.members[label]
        positive = index
        while positive == index:
            positive = same[int(torch.randint(len(same), (1,)))]
        negative = index
        while self.labels[negative] == label:
            negative = int(torch.randint(len(self.labels), (1,)))
        return self.images[index], self.images[positive], self.images[negative]


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)


class EmbeddingNet(nn.Module):
    def __init__(self, width, embed_dim):
        super().__init__()
        widths = [1, width, 2 * width, 4 * width]
        self.blocks = nn.ModuleList([ConvBlock(a, b) for a, b in zip(widths, widths[1:])])
        self.project = nn.Linear(4 * width * 2 * 2, embed_dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.project(x.flatten(1)), dim=1)


def triplet_loss(anchor, positive, negative, margin):
    d_ap = (anchor - positive).pow(2).sum(dim=1)
    d_an = (anchor - negative).pow(2).sum(dim=1)
    return F.relu(d_ap - d_an + margin).mean()


@torch.no_grad()
def embed(model, images):
    model.eval()
    return torch.cat([model(chunk) for chunk in images.split(250)])


def knn_accuracy(gallery, gallery_labels, queries, query_labels, k):
    nearest = (queries @ gallery.T).topk(k, dim=1).indices
    votes = gallery_labels[nearest].mode(dim=1).values
    return (votes == query_labels).float().mean().item()


def main(cfg):
    set_seed(cfg.seed)
    accelerator = Accelerator(cpu=True)
    (train_x, train_y), (val_x, val_y), (test_x, test_y) = make_splits(cfg)
    loader = DataLoader(TripletDataset(train_x, train_y), batch_size=cfg.batch_size, shuffle=True)
    total_steps = cfg.epochs * len(loader)

    def lr_lambda(step):
        if step < cfg.warmup_steps:
            return (step + 1) / cfg.warmup_steps
        progress = (step - cfg.warmup_steps) / (total_steps - cfg.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    model = EmbeddingNet(cfg.width, cfg.embed_dim)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)

    best_accuracy, best_state = 0.0, None
    for epoch in range(cfg.epochs):
        model.train()
        running, seen = 0.0, 0
        for batch in loader:
            anchor, positive, negative = model(torch.cat(batch)).chunk(3)
            loss = triplet_loss(anchor, positive, negative, cfg.margin)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            running += loss.item() * len(anchor)
            seen += len(anchor)
        val_accuracy = knn_accuracy(embed(model, train_x), train_y, embed(model, val_x), val_y, cfg.k)
        accelerator.print(f"epoch {epoch:2d}  triplet loss {running / seen:.4f}  {cfg.k}-nn accuracy {val_accuracy:.4f}")
        if val_accuracy > best_accuracy:
            best_accuracy = val_accuracy
            best_state = {name: value.clone() for name, value in model.state_dict().items()}

    model.load_state_dict(best_state)
    gallery, queries = embed(model, train_x), embed(model, test_x)
    recall = knn_accuracy(gallery, train_y, queries, test_y, 1)
    accuracy = knn_accuracy(gallery, train_y, queries, test_y, cfg.k)
    accelerator.print(f"test recall@1 {recall:.4f}  {cfg.k}-nn accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(Config())
