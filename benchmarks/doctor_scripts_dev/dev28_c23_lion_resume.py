"""Forecasts of a delay equation (Mackey-Glass) with Lion, interrupted halfway and resumed from a file."""
import math
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

WINDOW, AHEAD = 32, 6


class Lion(torch.optim.Optimizer):
    """Steps of one size: the sign of a mix of gradient and momentum (Chen and others 2023)."""

    def __init__(self, params, lr=3e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            fast, slow = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"]
                direction = (fast * momentum + (1 - fast) * p.grad).sign()
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * direction)
                momentum.mul_(slow).add_(p.grad, alpha=1 - slow)


def series(length, delay=17, discard=300):
    values = [1.2] * (delay + 1)
    for _ in range(length + discard):
        old = values[-1 - delay]
        values.append(values[-1] + 0.2 * old / (1 + old**10) - 0.1 * values[-1])
    return torch.tensor(values[-length:])


class Windows(Dataset):
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values) - WINDOW - AHEAD + 1

    def __getitem__(self, index):
        end = index + WINDOW
        return self.values[index:end].unsqueeze(0), self.values[end + AHEAD - 1]


class Forecaster(nn.Module):
    """Dilated causal convolutions; says by how much the value will differ from the last one seen."""

    def __init__(self, width=24):
        super().__init__()
        sizes = [1] + [width] * 4
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 3, dilation=2**i) for i, (a, b) in enumerate(zip(sizes, sizes[1:])))
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        h = x
        for conv in self.convs:
            h = F.gelu(conv(F.pad(h, (2 * conv.dilation[0], 0))))
        return x[:, 0, -1] + self.head(h[:, :, -1]).squeeze(1)


class Run:
    def __init__(self, loader, epochs):
        self.loader, self.epochs, self.done = loader, epochs, 0
        self.model = Forecaster()
        self.optimizer = Lion(self.model.parameters(), lr=8e-4, weight_decay=0.01)
        total = epochs * len(loader)
        shape = lambda step: min((step + 1) / 40, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(step / total, 1))))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, shape)
        self.parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def save(self, path):
        state = {name: part.state_dict() for name, part in self.parts.items()}
        torch.save({**state, "done": self.done, "random": torch.get_rng_state()}, path)

    def resume(self, path):
        state = torch.load(path, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.done = state["done"]
        torch.set_rng_state(state["random"])

    def until(self, epoch, valid_loader):
        while self.done < epoch:
            self.model.train()
            total = 0.0
            for inputs, targets in self.loader:
                noisy = inputs + 0.01 * torch.randn_like(inputs)
                loss = F.mse_loss(self.model(noisy), targets)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                total += loss.item() * len(targets)
            self.done += 1
            mine, naive = compare(self.model, valid_loader)
            print(f"epoch {self.done:2d} mse {total / len(self.loader.dataset):.5f} valid rmse {mine:.4f} (last value: {naive:.4f})")


@torch.no_grad()
def compare(model, loader):
    model.eval()
    mine = naive = count = 0
    for inputs, targets in loader:
        mine += (model(inputs) - targets).pow(2).sum().item()
        naive += (inputs[:, 0, -1] - targets).pow(2).sum().item()
        count += len(targets)
    return math.sqrt(mine / count), math.sqrt(naive / count)


if __name__ == "__main__":
    torch.manual_seed(24)
    torch.set_num_threads(1)
    values = series(4200)
    past, future = values[:3200], values[3300:]  # a gap between, so that no window sees both
    mean, spread = past.mean(), past.std()
    train_loader = DataLoader(Windows((past - mean) / spread), batch_size=64, shuffle=True)
    valid_loader = DataLoader(Windows((future - mean) / spread), batch_size=200)
    epochs = 16
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "half.pt")
        first = Run(train_loader, epochs)
        first.until(epochs // 2, valid_loader)
        first.save(path)
        del first
        second = Run(train_loader, epochs)
        second.resume(path)
    second.until(epochs, valid_loader)
