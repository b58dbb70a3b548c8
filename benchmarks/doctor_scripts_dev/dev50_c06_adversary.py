"""Tell squares, discs and crosses apart by features that say little about the color."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

import toydata


class Config:
    seed = 5
    batch_size = 60
    epochs = 16
    learning_rate = 2e-3
    max_reversal = 0.2
    features = 64


class ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return -ctx.strength * grad_output, None


def reverse_gradient(x, strength):
    return ReverseGradient.apply(x, strength)


class ShapeNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * 16, cfg.features),
            nn.ReLU(),
        )
        self.kind_head = nn.Linear(cfg.features, 3)
        self.color_head = nn.Sequential(nn.Linear(cfg.features, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, images, strength=0.0):
        features = self.encoder(images)
        return self.kind_head(features), self.color_head(reverse_gradient(features, strength))


def normalize(image):
    return (image - 0.5) / 0.2


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        train_set = toydata.Shapes(train=True, transform=normalize)
        test_set = toydata.Shapes(train=False, transform=normalize)
        self.train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True)
        self.test_loader = DataLoader(test_set, batch_size=120)
        self.model = ShapeNet(cfg)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.learning_rate, weight_decay=1e-3)
        self.total_steps = cfg.epochs * len(self.train_loader)
        self.step = 0

    def strength(self):
        progress = self.step / self.total_steps
        return self.cfg.max_reversal * (2 / (1 + math.exp(-10 * progress)) - 1)

    def train_epoch(self):
        self.model.train()
        sums = torch.zeros(2)
        for images, names in self.train_loader:
            kind, color = names % 3, names // 3
            kind_logits, color_logits = self.model(images, self.strength())
            kind_loss = F.cross_entropy(kind_logits, kind)
            color_loss = F.cross_entropy(color_logits, color)
            self.optimizer.zero_grad()
            (kind_loss + color_loss).backward()
            self.optimizer.step()
            self.step += 1
            sums += torch.stack([kind_loss, color_loss]).detach() * len(images)
        return (sums / len(self.train_loader.dataset)).tolist()

    @torch.no_grad()
    def test(self):
        self.model.eval()
        kind_right = color_right = 0
        for images, names in self.test_loader:
            kind_logits, color_logits = self.model(images)
            kind_right += (kind_logits.argmax(dim=1) == names % 3).sum().item()
            color_right += (color_logits.argmax(dim=1) == names // 3).sum().item()
        count = len(self.test_loader.dataset)
        return kind_right / count, color_right / count

    def run(self):
        for epoch in range(1, self.cfg.epochs + 1):
            kind_loss, color_loss = self.train_epoch()
            print(f"epoch {epoch:2d} | kind loss {kind_loss:.3f} | color loss {color_loss:.3f}")
        kind_accuracy, color_accuracy = self.test()
        print(f"kind accuracy {kind_accuracy:.3f}, what the adversary still reads of the color {color_accuracy:.3f}")


if __name__ == "__main__":
    torch.manual_seed(Config.seed)
    torch.set_num_threads(1)
    Trainer(Config()).run()
