"""Counting pips of a die with Sharpness-Aware Minimization: two passes a step, one of them uphill."""
import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, TensorDataset

PIPS = {
    1: [(0, 0)],
    2: [(-1, -1), (1, 1)],
    3: [(-1, -1), (0, 0), (1, 1)],
    4: [(-1, -1), (-1, 1), (1, -1), (1, 1)],
    5: [(-1, -1), (-1, 1), (0, 0), (1, -1), (1, 1)],
    6: [(-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)],
}


def throw(count, seed, size=24):
    g = torch.Generator().manual_seed(seed)
    faces = torch.randint(1, 7, (count,), generator=g)
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    images = torch.empty(count, 1, size, size)
    for i, face in enumerate(faces.tolist()):
        r = torch.rand(6, generator=g).tolist()
        turn, cy, cx = 2 * math.pi * r[0], 10.5 + 2 * r[1], 10.5 + 2 * r[2]
        u = (x - cx) * math.cos(turn) + (y - cy) * math.sin(turn)
        v = (y - cy) * math.cos(turn) - (x - cx) * math.sin(turn)
        image = 0.25 + (0.5 + 0.2 * r[3]) * ((u.abs() < 8) & (v.abs() < 8)).float()
        for a, b in PIPS[face]:
            image[(u - 4.5 * a) ** 2 + (v - 4.5 * b) ** 2 < 1.6**2] = 0.1 + 0.1 * r[4]
        images[i, 0] = image
    images += 0.05 * torch.randn(images.shape, generator=g)
    return TensorDataset((images - 0.45) / 0.25, faces - 1)


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        norms = [p.grad.norm() for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack(norms).norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * (group["rho"] / (norm + 1e-12)))  # climb to the worst point nearby
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data = self.state[p]["old_p"]  # back to where we were
        self.base_optimizer.step()
        self.zero_grad()


def running_stats(model, enabled):
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            if enabled:
                module.momentum = getattr(module, "backup_momentum", module.momentum)
            else:
                module.backup_momentum = module.momentum
                module.momentum = 0


def conv(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


def main():
    torch.manual_seed(5)
    train_loader = DataLoader(throw(1600, seed=50), batch_size=32, shuffle=True)
    val_loader = DataLoader(throw(400, seed=51), batch_size=100)
    model = nn.Sequential(conv(1, 16), conv(16, 32), conv(32, 64), nn.Flatten(), nn.Linear(64 * 9, 6))
    criterion = nn.CrossEntropyLoss()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.03, momentum=0.9, weight_decay=5e-4)
    epochs = 12
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.base_optimizer, epochs)

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in train_loader:
            running_stats(model, True)
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.first_step()
            running_stats(model, False)  # the second pass must not count twice in the averages
            criterion(model(x), y).backward()
            optimizer.second_step()
            total += loss.item() * len(y)
        running_stats(model, True)
        schedule.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in val_loader)
        print(f"epoch {epoch + 1:2d}: loss {total / 1600:.4f}, val accuracy {right / 400:.4f}")


if __name__ == "__main__":
    main()
