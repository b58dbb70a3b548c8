"""Embeddings of waves; a wave is named by a vote of its neighbors among the training waves."""
import argparse
import copy
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


class ClassBalancedBatches:
    """Batches of K samples of every class, drawn anew, for a given number of batches."""

    def __init__(self, labels, k, batches):
        self.k, self.batches = k, batches
        self.members = [torch.nonzero(labels == c).flatten().tolist() for c in labels.unique().tolist()]

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            yield [i for group in self.members for i in random.sample(group, self.k)]


class Encoder(nn.Module):
    def __init__(self, dim=16, width=24):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, width, 7, padding=3), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, 2 * width, 5, padding=2), nn.BatchNorm1d(2 * width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(2 * width, 2 * width, 5, padding=2), nn.BatchNorm1d(2 * width), nn.ReLU(),
            nn.AdaptiveMaxPool1d(2), nn.Flatten(),
            nn.Linear(4 * width, dim),
        )

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


def pair_loss(z, labels, temperature):
    own = torch.eye(len(z), dtype=torch.bool)
    same = (labels[:, None] == labels[None, :]) & ~own
    similarity = (z @ z.t()) / temperature
    log_share = similarity - similarity.masked_fill(own, float("-inf")).logsumexp(1, keepdim=True)
    per_sample = -log_share.masked_fill(~same, 0.0).sum(1) / same.sum(1)
    return per_sample.mean()


def jitter(x):
    """Another strength, upside down or not, and some noise: the kind of wave stays."""
    gain = 0.8 + 0.4 * torch.rand(len(x), 1, 1)
    sign = torch.randint(0, 2, (len(x), 1, 1)) * 2.0 - 1.0
    return gain * sign * x + 0.1 * torch.randn_like(x)


@torch.no_grad()
def embed(encoder, x, chunk=200):
    encoder.eval()
    return torch.cat([encoder(part) for part in x.split(chunk)])


def vote(gallery, gallery_labels, queries, k):
    nearest = (queries @ gallery.t()).topk(k, dim=1).indices
    votes = F.one_hot(gallery_labels[nearest], int(gallery_labels.max()) + 1).sum(1)
    return votes.argmax(1)


def recall_at_1(z, labels):
    similarity = z @ z.t()
    similarity.fill_diagonal_(-2.0)
    return (labels[similarity.argmax(1)] == labels).float().mean().item()


def run(opt):
    random.seed(opt.seed)
    torch.manual_seed(opt.seed)
    x, y = waves(count=1000, seed=12)
    x_train, y_train = x[:640], y[:640]
    x_val, y_val = x[640:800], y[640:800]
    x_test, y_test = x[800:], y[800:]

    loader = DataLoader(
        TensorDataset(x_train, y_train),
        batch_sampler=ClassBalancedBatches(y_train, k=opt.per_class, batches=opt.batches),
    )
    encoder = Encoder()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=opt.lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)

    best, best_state = -1.0, None
    for epoch in range(1, opt.epochs + 1):
        encoder.train()
        running = 0.0
        for xb, yb in loader:
            loss = pair_loss(encoder(jitter(xb)), yb, opt.temperature)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            running += loss.detach()
        scheduler.step()
        z_val = embed(encoder, x_val)
        accuracy = (vote(embed(encoder, x_train), y_train, z_val, opt.k) == y_val).float().mean().item()
        print(f"epoch {epoch}: loss {running / len(loader):.4f} | recall@1 {recall_at_1(z_val, y_val):.3f} | vote {accuracy:.3f}")
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(encoder.state_dict())

    encoder.load_state_dict(best_state)
    z_test = embed(encoder, x_test)
    accuracy = (vote(embed(encoder, x_train), y_train, z_test, opt.k) == y_test).float().mean().item()
    print(f"test: recall@1 {recall_at_1(z_test, y_test):.3f} | vote {accuracy:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--per_class", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=0.1)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--seed", type=int, default=4)
    run(parser.parse_args())
