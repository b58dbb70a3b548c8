"""Prototypical networks on made-up characters: the alphabets of training and validation have no character in common."""

import argparse

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Sampler, TensorDataset


def draw_characters(characters, copies, generator, size=16):
    """Each character is a random 5 x 5 pattern; copies are moved, scaled in contrast, and noisy."""
    images, labels = [], []
    for character in range(characters):
        pattern = (torch.rand(5, 5, generator=generator) < 0.5).float()
        glyph = pattern.repeat_interleave(2, 0).repeat_interleave(2, 1)
        for _ in range(copies):
            top, left = torch.randint(2, 5, (2,), generator=generator).tolist()
            image = torch.zeros(1, size, size)
            image[0, top : top + 10, left : left + 10] = glyph * (0.7 + 0.3 * torch.rand((), generator=generator))
            images.append(image + 0.15 * torch.randn(image.shape, generator=generator))
            labels.append(character)
    return (torch.stack(images) - 0.2) / 0.4, torch.tensor(labels)


class EpisodeSampler(Sampler):
    """Indices of `way` classes with `per_class` images each, class by class."""

    def __init__(self, labels, way, per_class, episodes, generator=None):
        self.indices = [torch.where(labels == c)[0] for c in labels.unique()]
        self.way, self.per_class, self.episodes = way, per_class, episodes
        self.generator = generator

    def __len__(self):
        return self.episodes

    def __iter__(self):
        for _ in range(self.episodes):
            classes = torch.randperm(len(self.indices), generator=self.generator)[: self.way]
            batch = []
            for c in classes.tolist():
                order = torch.randperm(len(self.indices[c]), generator=self.generator)[: self.per_class]
                batch.append(self.indices[c][order])
            yield torch.cat(batch).tolist()


def conv_block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.GroupNorm(4, out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class Convnet(nn.Module):
    def __init__(self, hidden=24, z_dim=24):
        super().__init__()
        self.encoder = nn.Sequential(conv_block(1, hidden), conv_block(hidden, hidden), conv_block(hidden, z_dim))

    def forward(self, x):
        return self.encoder(x).flatten(1)


def squared_distance(a, b):
    return (a[:, None, :] - b[None, :, :]).pow(2).mean(dim=2)


def split_episode(images, way, shot, query):
    """(way * (shot + query), ...) to support (way, shot, ...) and query (way * query, ...) with the labels of the latter."""
    images = images.view(way, shot + query, *images.shape[1:])
    support = images[:, :shot]
    queries = images[:, shot:].reshape(way * query, *images.shape[2:])
    labels = torch.arange(way).repeat_interleave(query)
    return support, queries, labels


def episode_logits(model, scale, support, queries):
    way, shot = support.shape[:2]
    embedded = model(torch.cat([support.flatten(0, 1), queries]))
    prototypes = embedded[: way * shot].view(way, shot, -1).mean(dim=1)
    return -scale.exp() * squared_distance(embedded[way * shot :], prototypes)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-epoch", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=25)
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=2)
    parser.add_argument("--query", type=int, default=6)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=9)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    generator = torch.Generator().manual_seed(args.seed)
    train_images, train_labels = draw_characters(60, 20, generator)
    val_images, val_labels = draw_characters(20, 20, generator)
    per_class = args.shot + args.query
    train_sampler = EpisodeSampler(train_labels, args.way, per_class, args.episodes)
    train_loader = DataLoader(TensorDataset(train_images, train_labels), batch_sampler=train_sampler)

    model = Convnet()
    scale = nn.Parameter(torch.tensor(0.0))
    optimizer = torch.optim.Adam([*model.parameters(), scale], lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    criterion = nn.CrossEntropyLoss()

    def validate():
        fixed = torch.Generator().manual_seed(77)
        sampler = EpisodeSampler(val_labels, args.way, per_class, 40, fixed)
        loader = DataLoader(TensorDataset(val_images, val_labels), batch_sampler=sampler)
        model.eval()
        right = count = 0
        with torch.no_grad():
            for images, _ in loader:
                support, queries, labels = split_episode(images, args.way, args.shot, args.query)
                predicted = episode_logits(model, scale, support, queries).argmax(dim=1)
                right += (predicted == labels).sum().item()
                count += len(labels)
        return right / count

    print(f"before training: val acc {validate():.3f}")
    for epoch in range(1, args.max_epoch + 1):
        model.train()
        total_loss = total_acc = 0.0
        for images, _ in train_loader:
            support, queries, labels = split_episode(images, args.way, args.shot, args.query)
            logits = episode_logits(model, scale, support, queries)
            loss = criterion(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            total_acc += (logits.argmax(dim=1) == labels).float().mean().item()
        scheduler.step()
        print(
            f"epoch {epoch}: loss {total_loss / args.episodes:.4f} acc {total_acc / args.episodes:.3f} "
            f"val acc {validate():.3f} scale {scale.exp().item():.2f}"
        )


if __name__ == "__main__":
    main()
