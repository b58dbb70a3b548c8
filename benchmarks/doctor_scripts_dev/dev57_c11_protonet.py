"""Prototypical networks for few-shot recognition of invented characters, in the episodes of Snell et al."""

import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def invent_alphabet(classes, per_class, seed):
    """Each character is a random pattern of 6 x 6 strokes, doubled in size, moved, and blurred by noise."""
    rng = np.random.default_rng(seed)
    images = np.zeros((classes, per_class, 16, 16), np.float32)
    for c in range(classes):
        pattern = (rng.random((6, 6)) < 0.4).astype(np.float32).repeat(2, 0).repeat(2, 1)
        for k in range(per_class):
            top, left = rng.integers(1, 4, 2)
            images[c, k, top : top + 12, left : left + 12] = pattern
    images += 0.25 * rng.standard_normal(images.shape).astype(np.float32)
    return torch.from_numpy((images - 0.22) / 0.48).unsqueeze(2)


class EpisodeSampler:
    def __init__(self, images, n_way, k_shot, n_query):
        self.images, self.n_way, self.k_shot, self.n_query = images, n_way, k_shot, n_query

    def draw(self):
        classes = random.sample(range(self.images.shape[0]), self.n_way)
        support, query = [], []
        for c in classes:
            chosen = torch.randperm(self.images.shape[1])[: self.k_shot + self.n_query]
            support.append(self.images[c, chosen[: self.k_shot]])
            query.append(self.images[c, chosen[self.k_shot :]])
        target = torch.arange(self.n_way).repeat_interleave(self.n_query)
        return torch.stack(support), torch.cat(query), target


def conv_block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class ProtoNet(nn.Module):
    def __init__(self, hidden=32, dim=32):
        super().__init__()
        self.encoder = nn.Sequential(conv_block(1, hidden), conv_block(hidden, hidden))
        self.project = nn.Linear(hidden * 4 * 4, dim)

    def embed(self, x):
        return self.project(self.encoder(x).flatten(1))

    def forward(self, support, query):
        n_way, k_shot = support.shape[:2]
        z = self.embed(torch.cat([support.flatten(0, 1), query]))
        z_support, z_query = z[: n_way * k_shot], z[n_way * k_shot :]
        prototypes = z_support.view(n_way, k_shot, -1).mean(1)
        return self.scores(z_query, prototypes)

    def scores(self, z, prototypes):
        distance = (z[:, None, :] - prototypes[None, :, :]).square().sum(-1)
        return -distance / z.shape[1] ** 0.5


def run_episode(model, episode):
    support, query, target = episode
    logits = model(support, query)
    loss = F.cross_entropy(logits, target)
    correct = (logits.detach().argmax(1) == target).float().mean()
    return loss, correct


@torch.no_grad()
def evaluate(model, sampler, episodes):
    model.eval()
    figures = torch.stack([torch.stack(run_episode(model, sampler.draw())) for _ in range(episodes)])
    loss, accuracy = figures.mean(0).tolist()
    interval = 1.96 * figures[:, 1].std().item() / episodes**0.5
    return loss, accuracy, interval


def get_parser():
    parser = argparse.ArgumentParser(description="Prototypical networks")
    parser.add_argument("-nep", "--epochs", type=int, default=6)
    parser.add_argument("-its", "--iterations", type=int, default=40, help="episodes per epoch")
    parser.add_argument("-lr", "--learning_rate", type=float, default=2e-3)
    parser.add_argument("-lrG", "--lr_scheduler_gamma", type=float, default=0.5)
    parser.add_argument("-cTr", "--classes_per_it", type=int, default=6)
    parser.add_argument("-nsTr", "--num_support", type=int, default=5)
    parser.add_argument("-nqTr", "--num_query", type=int, default=5)
    parser.add_argument("-seed", "--manual_seed", type=int, default=7)
    return parser


def main():
    opt = get_parser().parse_args()
    random.seed(opt.manual_seed)
    torch.manual_seed(opt.manual_seed)

    # the characters of evaluation are new ones
    train_images = invent_alphabet(60, 20, seed=0)
    val_images = invent_alphabet(20, 20, seed=1)
    shape = (opt.classes_per_it, opt.num_support, opt.num_query)
    tr_sampler, val_sampler = EpisodeSampler(train_images, *shape), EpisodeSampler(val_images, *shape)

    model = ProtoNet()
    optim = torch.optim.Adam(model.parameters(), lr=opt.learning_rate)
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optim, step_size=3, gamma=opt.lr_scheduler_gamma)
    best_acc, best_state = 0.0, None
    for epoch in range(opt.epochs):
        print("=== Epoch: {} ===".format(epoch))
        model.train()
        train_loss, train_acc = [], []
        for _ in range(opt.iterations):
            optim.zero_grad()
            loss, acc = run_episode(model, tr_sampler.draw())
            loss.backward()
            optim.step()
            train_loss.append(loss.detach())
            train_acc.append(acc)
        lr_scheduler.step()
        print("Avg Train Loss: {:.4f}, Avg Train Acc: {:.4f}".format(
            torch.stack(train_loss).mean().item(), torch.stack(train_acc).mean().item()))
        val_loss, val_acc, interval = evaluate(model, val_sampler, 30)
        print("Avg Val Loss: {:.4f}, Avg Val Acc: {:.4f} +- {:.4f}".format(val_loss, val_acc, interval))
        if val_acc >= best_acc:
            best_acc = val_acc
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best_state)
    print("best validation accuracy {:.4f}".format(best_acc))


if __name__ == "__main__":
    main()
