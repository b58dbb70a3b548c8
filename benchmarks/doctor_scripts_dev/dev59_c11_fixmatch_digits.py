"""FixMatch on digits: few labels, confident pseudo-labels of weakly augmented images, an EMA for evaluation."""

import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Digits


def to_float(image):
    return (image.float() / 255 - 0.2) / 0.33


def weak(image):
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(image, (dy, dx), dims=(-2, -1))


def strong(image):
    image = weak(image) * (0.7 + 0.6 * torch.rand(())) + 0.3 * torch.randn(image.shape)
    top, left = torch.randint(0, 13, (2,)).tolist()
    image[:, top : top + 4, left : left + 4] = 0.0
    return image


class LabeledDigits(Dataset):
    def __init__(self, base, indexs):
        self.data, self.targets = base.data[indexs], base.targets[indexs]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return weak(to_float(self.data[i])), self.targets[i]


class UnlabeledDigits(Dataset):
    def __init__(self, base, indexs):
        self.data = base.data[indexs]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return weak(to_float(self.data[i])), strong(to_float(self.data[i]))


def x_u_split(args, labels):
    """The same number of labels for each class."""
    rng = np.random.default_rng(args.seed)
    labels = labels.numpy()
    labeled_idx = np.concatenate(
        [rng.choice(np.where(labels == c)[0], args.num_labeled // 10, replace=False) for c in range(10)]
    )
    unlabeled_idx = np.setdiff1d(np.arange(len(labels)), labeled_idx)
    return torch.from_numpy(labeled_idx), torch.from_numpy(unlabeled_idx)


def build_net(width=16):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 10),
    )


class ModelEMA:
    def __init__(self, model, decay):
        self.ema = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for e, p in zip(self.ema.parameters(), model.parameters()):
            e.mul_(self.decay).add_(p, alpha=1 - self.decay)
        for e, b in zip(self.ema.buffers(), model.buffers()):
            e.copy_(b)


def forever(loader):
    while True:
        yield from loader


@torch.no_grad()
def test(model, loader):
    model.eval()
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="FixMatch")
    parser.add_argument("--num-labeled", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--mu", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--eval-step", type=int, default=25)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--ema-decay", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    base = Digits(train=True, count=1400)
    labeled_idx, unlabeled_idx = x_u_split(args, base.targets)
    labeled = DataLoader(LabeledDigits(base, labeled_idx), batch_size=args.batch_size, shuffle=True, drop_last=True)
    unlabeled = DataLoader(
        UnlabeledDigits(base, unlabeled_idx), batch_size=args.batch_size * args.mu, shuffle=True, drop_last=True
    )
    test_loader = DataLoader(Digits(train=False, transform=to_float), batch_size=150)

    model = build_net()
    ema = ModelEMA(model, args.ema_decay)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    total = args.epochs * args.eval_step
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: math.cos(math.pi * 7 / 16 * s / total))

    labeled_iter, unlabeled_iter = forever(labeled), forever(unlabeled)
    for epoch in range(args.epochs):
        model.train()
        sums = torch.zeros(3)
        for _ in range(args.eval_step):
            inputs_x, targets_x = next(labeled_iter)
            inputs_u_w, inputs_u_s = next(unlabeled_iter)
            logits = model(torch.cat((inputs_x, inputs_u_w, inputs_u_s)))
            logits_x = logits[: len(inputs_x)]
            logits_u_w, logits_u_s = logits[len(inputs_x) :].chunk(2)
            Lx = F.cross_entropy(logits_x, targets_x)
            max_probs, targets_u = torch.softmax(logits_u_w.detach(), dim=-1).max(dim=-1)
            mask = max_probs.ge(args.threshold).float()
            Lu = (F.cross_entropy(logits_u_s, targets_u, reduction="none") * mask).mean()
            loss = Lx + Lu
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(model)
            sums += torch.tensor([Lx.item(), Lu.item(), mask.mean().item()])
        lx, lu, m = (sums / args.eval_step).tolist()
        print(f"epoch {epoch}: Lx {lx:.3f} Lu {lu:.3f} mask {m:.2f} test acc {test(ema.ema, test_loader):.3f}")


if __name__ == "__main__":
    main()
