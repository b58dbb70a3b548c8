"""
Homework 5, domain adaptation. DANN (Ganin et al., 2016):
labels for clean digits only, a domain head that is trained to tell clean from scanned digits,
and features that are trained so that it cannot.
"""
import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

EPOCHS = 14
BATCH = 64
MAX_LAMBDA = 0.3


class GradReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lam):
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.lam * grad, None


def reverse(x, lam):
    return GradReverse.apply(x, lam)


class DANN(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64), nn.ReLU(),
        )
        self.label_head = nn.Linear(64, 10)
        self.domain_head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x, lam=0.0):
        f = self.features(x)
        return self.label_head(f), self.domain_head(reverse(f, lam)).squeeze(1)


def normalize(x):
    return (x - 0.2) / 0.3


def clean(count, seed):
    images, labels = draw_digits(count, seed=seed)
    return normalize(images.float() / 255), labels


def scanned(count, seed):
    images, labels = draw_digits(count, seed=seed, noise=0.2)
    return normalize(0.25 + 0.6 * images.float() / 255), labels


@torch.no_grad()
def test(model, x, y):
    model.eval()
    predicted = model(x)[0].argmax(dim=1)
    return (predicted == y).float().mean().item()


def main():
    torch.manual_seed(0)
    source_x, source_y = clean(1200, seed=0)
    target_x, _ = scanned(1200, seed=2)  # the labels of the target are not for training
    source_test, target_test = clean(300, seed=1), scanned(300, seed=3)

    source_loader = DataLoader(TensorDataset(source_x, source_y), BATCH, shuffle=True, drop_last=True)
    target_loader = DataLoader(TensorDataset(target_x), BATCH, shuffle=True, drop_last=True)

    model = DANN()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    label_criterion = nn.CrossEntropyLoss()
    domain_criterion = nn.BCEWithLogitsLoss()

    total = EPOCHS * len(source_loader)
    step = 0
    for epoch in range(EPOCHS):
        model.train()
        label_sum = domain_sum = 0.0
        for (xs, ys), (xt,) in zip(source_loader, target_loader):
            lam = MAX_LAMBDA * (2 / (1 + math.exp(-10 * step / total)) - 1)
            label_logits, domain_logits = model(torch.cat([xs, xt]), lam)
            domains = torch.cat([torch.zeros(len(xs)), torch.ones(len(xt))])
            label_loss = label_criterion(label_logits[: len(xs)], ys)
            domain_loss = domain_criterion(domain_logits, domains)

            optimizer.zero_grad()
            # plus: the sign is turned between the domain head and the features
            (label_loss + domain_loss).backward()
            optimizer.step()
            step += 1
            label_sum += label_loss.detach()
            domain_sum += domain_loss.detach()

        n = len(source_loader)
        # a domain loss of ln 2 = 0.69 is the aim of the features
        print("epoch %2d  lambda %.2f  label loss %.3f  domain loss %.3f  source acc %.3f  target acc %.3f" % (
            epoch + 1, lam, label_sum / n, domain_sum / n, test(model, *source_test), test(model, *target_test)))


if __name__ == "__main__":
    main()
