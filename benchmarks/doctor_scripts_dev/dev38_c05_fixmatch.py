# FixMatch in one file: 20 labelled digits of each class, 1000 unlabelled ones.
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from toydata import Digits

SEED = 2024
STEPS = 260
BATCH_L, BATCH_U = 32, 64
THRESHOLD, LAMBDA_U = 0.9, 1.0
LR, WEIGHT_DECAY = 2e-3, 5e-4


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def split_labelled(targets, per_class, seed):
    rng = np.random.RandomState(seed)
    targets = targets.numpy()
    labelled = np.concatenate(
        [rng.choice(np.where(targets == c)[0], per_class, replace=False) for c in range(10)])
    unlabelled = np.setdiff1d(np.arange(len(targets)), labelled)
    return labelled, unlabelled


def weak(x):
    """Moves each image by up to one pixel; the outermost rows and columns are always ground."""
    n, _, h, w = x.shape
    dy, dx = torch.randint(-1, 2, (n, 1, 1)), torch.randint(-1, 2, (n, 1, 1))
    rows = (torch.arange(h).view(1, h, 1) + dy) % h
    cols = (torch.arange(w).view(1, 1, w) + dx) % w
    return x[torch.arange(n).view(n, 1, 1), 0, rows, cols].unsqueeze(1)


def strong(x):
    """The same, with another contrast, noise and a hole of 3 x 3 pixels."""
    x = weak(x)
    n, _, h, w = x.shape
    x = x * torch.empty(n, 1, 1, 1).uniform_(0.7, 1.3) + 0.2 * torch.randn_like(x)
    top, left = torch.randint(0, h - 2, (n, 1, 1)), torch.randint(0, w - 2, (n, 1, 1))
    rows, cols = torch.arange(h).view(1, h, 1), torch.arange(w).view(1, 1, w)
    hole = (rows >= top) & (rows < top + 3) & (cols >= left) & (cols < left + 3)
    return x.masked_fill(hole.unsqueeze(1), 0.0)


class ConvNet(nn.Module):
    def __init__(self, width=16, num_classes=10):
        super().__init__()
        self.layer1 = self._block(1, width)
        self.layer2 = self._block(width, 2 * width)
        self.fc = nn.Sequential(nn.Linear(2 * width * 16, 64), nn.ReLU(), nn.Linear(64, num_classes))

    @staticmethod
    def _block(c_in, c_out):
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1), nn.GroupNorm(4, c_out), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(x)).flatten(1))


def endless(tensors, batch_size):
    dataset = TensorDataset(*tensors)
    sampler = RandomSampler(dataset, replacement=True, num_samples=STEPS * batch_size)
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = 0
    for x, y in loader:
        correct += int((model(x).argmax(1) == y).sum())
        total += y.numel()
    model.train()
    return correct / total


def main():
    set_seed(SEED)
    pool, test = Digits(train=True), Digits(train=False)
    labelled, unlabelled = split_labelled(pool.targets, per_class=20, seed=SEED)
    x_pool, x_test = pool.data.float() / 255, test.data.float() / 255
    mean, std = x_pool.mean(), x_pool.std()
    x_pool, x_test = (x_pool - mean) / std, (x_test - mean) / std

    labelled_loader = endless((x_pool[labelled], pool.targets[labelled]), BATCH_L)
    unlabelled_loader = endless((x_pool[unlabelled],), BATCH_U)
    test_loader = DataLoader(TensorDataset(x_test, test.targets), batch_size=100)

    model = ConvNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS, eta_min=0.1 * LR)

    model.train()
    for step, ((x_l, y_l), (x_u,)) in enumerate(zip(labelled_loader, unlabelled_loader), 1):
        inputs = torch.cat([weak(x_l), weak(x_u), strong(x_u)])
        logits_l, logits_w, logits_s = model(inputs).split([len(x_l), len(x_u), len(x_u)])

        loss_x = F.cross_entropy(logits_l, y_l)
        confidence, pseudo = logits_w.detach().softmax(dim=1).max(dim=1)
        mask = (confidence >= THRESHOLD).float()
        loss_u = (F.cross_entropy(logits_s, pseudo, reduction="none") * mask).mean()

        optimizer.zero_grad()
        (loss_x + LAMBDA_U * loss_u).backward()
        optimizer.step()
        scheduler.step()

        if step % 65 == 0:
            print(f"step {step}: loss_x {loss_x.item():.4f} loss_u {loss_u.item():.4f} "
                  f"mask {mask.mean().item():.2f} test accuracy {evaluate(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
