"""Prototypical networks on generated characters, after jakesnell/prototypical-networks: new classes in validation."""
import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F


def make_alphabet(n_classes, per_class, seed, size=16):
    """n_classes random glyphs of 5 x 5 cells; per_class drawings of each, moved, of various ink and noise."""
    generator = torch.Generator().manual_seed(seed)
    glyphs = (torch.rand(n_classes, 5, 5, generator=generator) < 0.45).float()
    glyphs = glyphs.repeat_interleave(2, 1).repeat_interleave(2, 2)
    images = torch.zeros(n_classes, per_class, 1, size, size)
    for c in range(n_classes):
        for i in range(per_class):
            top, left = torch.randint(1, 6, (2,), generator=generator).tolist()
            ink = 0.7 + 0.3 * torch.rand((), generator=generator)
            images[c, i, 0, top : top + 10, left : left + 10] = ink * glyphs[c]
    images = images + 0.15 * torch.randn(images.shape, generator=generator)
    return (images - 0.17) / 0.36


class EpisodeSampler:
    """Yields episodes: support (way, shot, 1, H, W) and query (way, query, 1, H, W) of classes drawn anew."""

    def __init__(self, images, way, shot, query, episodes):
        self.images, self.way, self.shot, self.query, self.episodes = images, way, shot, query, episodes

    def __len__(self):
        return self.episodes

    def __iter__(self):
        for _ in range(self.episodes):
            classes = torch.randperm(len(self.images))[: self.way]
            support, query = [], []
            for c in classes.tolist():
                order = torch.randperm(self.images.shape[1])[: self.shot + self.query]
                support.append(self.images[c, order[: self.shot]])
                query.append(self.images[c, order[self.shot :]])
            yield torch.stack(support), torch.stack(query)


def conv_block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2)
    )


class Protonet(nn.Module):
    def __init__(self, hid_dim=24, z_dim=24):
        super().__init__()
        self.encoder = nn.Sequential(conv_block(1, hid_dim), conv_block(hid_dim, hid_dim), conv_block(hid_dim, z_dim))
        self.scale = nn.Parameter(torch.tensor(0.03))

    def forward(self, x):
        return self.encoder(x).flatten(1)

    def loss(self, support, query):
        way, shot = support.shape[:2]
        n_query = query.shape[1]
        x = torch.cat([support.flatten(0, 1), query.flatten(0, 1)])
        z = self(x)
        prototypes = z[: way * shot].view(way, shot, -1).mean(dim=1)
        zq = z[way * shot :]
        logits = -self.scale * (zq[:, None] - prototypes[None]).pow(2).sum(-1)
        target = torch.arange(way).repeat_interleave(n_query)
        loss = F.cross_entropy(logits, target)
        correct = (logits.argmax(dim=1) == target).sum().item()
        return loss, correct, len(target)


@torch.no_grad()
def evaluate(model, episodes):
    model.eval()
    total_loss, correct, count = 0.0, 0, 0
    for support, query in episodes:
        loss, right, n = model.loss(support, query)
        total_loss += loss.item() * n
        correct += right
        count += n
    return total_loss / count, correct / count


def train_epoch(model, episodes, optimizer):
    model.train()
    total_loss, correct, count = 0.0, 0, 0
    for support, query in episodes:
        optimizer.zero_grad()
        loss, right, n = model.loss(support, query)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * n
        correct += right
        count += n
    return total_loss / count, correct / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=3)
    parser.add_argument("--query", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(1234)

    train_images = make_alphabet(60, 20, seed=0)
    val_images = make_alphabet(20, 20, seed=1)
    train_episodes = EpisodeSampler(train_images, args.way, args.shot, args.query, args.episodes)
    val_episodes = list(EpisodeSampler(val_images, args.way, args.shot, args.query, 30))  # the same in each epoch

    model = Protonet()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    best, best_state = float("inf"), None
    for epoch in range(1, args.epochs + 1):
        loss, accuracy = train_epoch(model, train_episodes, optimizer)
        scheduler.step()
        val_loss, val_accuracy = evaluate(model, val_episodes)
        print(f"epoch {epoch}: train {loss:.4f} / {accuracy:.4f}, val {val_loss:.4f} / {val_accuracy:.4f}")
        if val_loss < best:
            best, best_state = val_loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    print("final: loss {:.4f}, accuracy {:.4f}".format(*evaluate(model, val_episodes)))


if __name__ == "__main__":
    main()
