"""Digits with a penalty on the gradient of the loss with respect to the inputs (double backpropagation)."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits


class Config:
    batch_size = 50
    lr = 2e-3
    betas = (0.9, 0.99)
    gp_weight = 0.01
    max_grad_norm = 5.0


class ToFloat:
    def __init__(self, mean=0.2, std=0.35):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image.float() / 255 - self.mean) / self.std


class SmoothNet(nn.Module):
    """SiLU in place of ReLU: the penalty needs second derivatives."""

    def __init__(self, num_classes=10, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * 4 * 4, 64),
            nn.SiLU(),
            nn.Linear(64, num_classes),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


def input_gradient_penalty(value, images):
    """Mean over samples of the squared norm of d loss / d image; `value` is a mean, hence the factor."""
    (gradient,) = torch.autograd.grad(value, images, create_graph=True)
    per_sample = gradient * len(images)
    return per_sample.flatten(1).pow(2).sum(1).mean()


class GradientPenaltyStep:
    def __init__(self, config):
        self.gp_weight = config.gp_weight
        self.max_grad_norm = config.max_grad_norm

    def __call__(self, model, batch, optimizer, loss):
        images, labels = batch
        images = images.detach().clone().requires_grad_(True)
        model.train()
        optimizer.zero_grad(set_to_none=True)
        value = loss(model(images), labels)
        penalty = input_gradient_penalty(value, images)
        total = value + self.gp_weight * penalty
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.max_grad_norm)
        optimizer.step()
        return total.detach()


def get_loaders(config):
    train_set = Digits(train=True, transform=ToFloat())
    val_set = Digits(train=False, transform=ToFloat())
    train = DataLoader(train_set, batch_size=config.batch_size, shuffle=True)
    return train, DataLoader(val_set, batch_size=100, shuffle=False)


def setup():
    torch.manual_seed(3)
    config = Config()
    model = SmoothNet()
    train, val = get_loaders(config)
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=config.lr, betas=config.betas),
        "step": GradientPenaltyStep(config),
        "task": "classify",
    }
