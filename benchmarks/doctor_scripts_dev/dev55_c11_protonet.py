"""Prototypical networks: episodes of unseen classes, told apart by the distance to the means of a few shots."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F


class World:
    """Classes are points of a latent space. Samples show them in a mixture with much stronger nuisance."""

    def __init__(self, seed, dim=32, latent=8, nuisance=8):
        self.generator = torch.Generator().manual_seed(seed)
        self.dim, self.latent, self.nuisance = dim, latent, nuisance
        mixing, _ = torch.linalg.qr(self.randn(dim, latent + nuisance))
        self.signal, self.noise = mixing[:, :latent].T, mixing[:, latent:].T

    def randn(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def make_classes(self, classes, samples):
        """Tensor of classes x samples x dim."""
        centers = self.randn(classes, 1, self.latent)
        latent = centers + 0.25 * self.randn(classes, samples, self.latent)
        nuisance = 2.0 * self.randn(classes, samples, self.nuisance)
        return latent @ self.signal + nuisance @ self.noise + 0.05 * self.randn(classes, samples, self.dim)


class Encoder(nn.Module):
    def __init__(self, dim=32, hidden=64, out=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, out),
        )

    def forward(self, x):
        return self.layers(x)


def episodes(data, count, way, shot, query, generator=None):
    """Yields support (way x shot x dim), query (way x query x dim); classes are numbered within the episode."""
    classes, samples = data.shape[:2]
    for _ in range(count):
        chosen = torch.randperm(classes, generator=generator)[:way]
        order = torch.stack([torch.randperm(samples, generator=generator)[: shot + query] for _ in range(way)])
        episode = data[chosen[:, None], order]
        yield episode[:, :shot], episode[:, shot:]


class ProtoNet(nn.Module):
    def __init__(self, encoder, amp=True):
        super().__init__()
        self.encoder, self.amp = encoder, amp

    def scores(self, queries, prototypes):
        return -(queries[:, None] - prototypes[None]).pow(2).sum(-1)

    def loss(self, support, query):
        way, shot, n_query = support.size(0), support.size(1), query.size(1)
        target = torch.arange(way).repeat_interleave(n_query)

        x = torch.cat([support.flatten(0, 1), query.flatten(0, 1)])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.amp):
            z = self.encoder(x)
        z = z.float()
        prototypes = z[: way * shot].view(way, shot, -1).mean(1)
        logits = self.scores(z[way * shot :], prototypes)

        loss = F.cross_entropy(logits, target)
        accuracy = (logits.argmax(1) == target).float().mean()
        return loss, {"loss": loss.detach(), "acc": accuracy}


def mean_of(records):
    return {key: torch.stack([r[key] for r in records]).mean().item() for key in records[0]}


def train(model, optimizer, stream):
    model.train()
    records = []
    for support, query in stream:
        optimizer.zero_grad()
        loss, output = model.loss(support, query)
        loss.backward()
        optimizer.step()
        records.append(output)
    return mean_of(records)


@torch.no_grad()
def evaluate(model, stream):
    model.eval()
    return mean_of([model.loss(support, query)[1] for support, query in stream])


def main():
    parser = argparse.ArgumentParser(description="Train prototypical networks")
    parser.add_argument("--data.way", dest="way", type=int, default=8)
    parser.add_argument("--data.test_way", dest="test_way", type=int, default=5)
    parser.add_argument("--data.shot", dest="shot", type=int, default=5)
    parser.add_argument("--data.query", dest="query", type=int, default=5)
    parser.add_argument("--data.train_episodes", dest="train_episodes", type=int, default=60)
    parser.add_argument("--train.epochs", dest="epochs", type=int, default=10)
    parser.add_argument("--train.learning_rate", dest="learning_rate", type=float, default=3e-3)
    parser.add_argument("--train.decay_every", dest="decay_every", type=int, default=4)
    opt = parser.parse_args()

    torch.manual_seed(1234)
    world = World(seed=0)
    train_data = world.make_classes(60, 20)
    val_data = world.make_classes(20, 20)

    model = ProtoNet(Encoder())
    optimizer = torch.optim.Adam(model.parameters(), lr=opt.learning_rate)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, opt.decay_every, gamma=0.5)

    for epoch in range(1, opt.epochs + 1):
        stream = episodes(train_data, opt.train_episodes, opt.way, opt.shot, opt.query)
        trained = train(model, optimizer, stream)
        scheduler.step()
        fixed = torch.Generator().manual_seed(99)
        tested = evaluate(model, episodes(val_data, 40, opt.test_way, opt.shot, opt.query, fixed))
        print(
            f"Epoch {epoch:02d}: train loss = {trained['loss']:.4f}, train acc = {trained['acc']:.4f}, "
            f"val loss = {tested['loss']:.4f}, val acc = {tested['acc']:.4f}"
        )


if __name__ == "__main__":
    main()
