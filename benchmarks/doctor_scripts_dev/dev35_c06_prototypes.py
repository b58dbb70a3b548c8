"""Prototypical networks (Snell et al., 2017): learn to compare on seven digits, be tested on three new ones."""

import math
import random
import statistics

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler

from toydata import Digits

BASE_CLASSES = [0, 1, 2, 3, 5, 6, 8]
NOVEL_CLASSES = [4, 7, 9]
SHOT, QUERY = 5, 10
TRAIN_WAY, TEST_WAY = 5, 3
EPOCHS, EPISODES_PER_EPOCH, TEST_EPISODES = 6, 50, 60


def prepare(image):
    return (image.float() / 255 - 0.15) / 0.3


class EpisodeSampler(Sampler):
    """A batch is an episode: `way` classes one after the other, `per_class` different images of each."""

    def __init__(self, labels, classes, way, per_class, episodes, seed=None):
        self.pools = [(labels == c).nonzero().flatten() for c in classes]
        self.way, self.per_class, self.episodes, self.seed = way, per_class, episodes, seed

    def __len__(self):
        return self.episodes

    def __iter__(self):
        generator = torch.Generator()
        generator.manual_seed(random.randrange(2**31) if self.seed is None else self.seed)
        for _ in range(self.episodes):
            batch = []
            for c in torch.randperm(len(self.pools), generator=generator)[: self.way].tolist():
                pool = self.pools[c]
                batch.append(pool[torch.randperm(len(pool), generator=generator)[: self.per_class]])
            yield torch.cat(batch).tolist()


def conv_block(n_in, n_out, pool):
    layers = [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


class ProtoNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Sequential(
            conv_block(1, width, True), conv_block(width, width, True), conv_block(width, width, False), nn.Flatten()
        )
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images, way):
        """Logits of the queries of an episode for its own classes, numbered in order of appearance."""
        z = self.embed(images)
        z = z.view(way, SHOT + QUERY, -1)
        support, query = z[:, :SHOT], z[:, SHOT:].flatten(0, 1)
        prototypes = support.mean(dim=1)
        logits = -(query[:, None] - prototypes[None]).pow(2).mean(dim=2)
        return self.scale * logits


def episode_targets(way):
    return torch.arange(way).repeat_interleave(QUERY)


@torch.no_grad()
def evaluate(model, loader, way):
    model.eval()
    scores = []
    for images, _ in loader:
        predictions = model(images, way).argmax(dim=1)
        scores.append((predictions == episode_targets(way)).float().mean().item())
    return statistics.mean(scores), 1.96 * statistics.stdev(scores) / math.sqrt(len(scores))


if __name__ == "__main__":
    random.seed(5)
    torch.manual_seed(5)

    train_set = Digits(train=True, transform=prepare)
    test_set = Digits(train=False, count=600, transform=prepare)
    per_class = SHOT + QUERY
    train_loader = DataLoader(
        train_set,
        batch_sampler=EpisodeSampler(train_set.targets, BASE_CLASSES, TRAIN_WAY, per_class, EPISODES_PER_EPOCH),
    )
    novel_loader = DataLoader(
        test_set,
        batch_sampler=EpisodeSampler(test_set.targets, NOVEL_CLASSES, TEST_WAY, per_class, TEST_EPISODES, seed=99),
    )

    model = ProtoNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    target = episode_targets(TRAIN_WAY)

    score, interval = evaluate(model, novel_loader, TEST_WAY)
    print(f"before training: new digits {100 * score:.1f} ± {100 * interval:.1f} %")
    for epoch in range(EPOCHS):
        model.train()
        losses, accuracies = [], []
        for images, _ in train_loader:
            logits = model(images, TRAIN_WAY)
            loss = F.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            accuracies.append((logits.argmax(dim=1) == target).float().mean().item())
        scheduler.step()
        score, interval = evaluate(model, novel_loader, TEST_WAY)
        print(
            f"epoch {epoch + 1}: loss {statistics.mean(losses):.3f}, episodes {100 * statistics.mean(accuracies):.1f} %, "
            f"new digits {100 * score:.1f} ± {100 * interval:.1f} %"
        )
