"""Six colored shapes, with sharpness-aware minimization: two gradients per step, the second from a closure."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base, rho=0.05, **options):
        super().__init__(params, dict(rho=rho, **options))
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups
        self.defaults.update(self.base.defaults)

    @torch.no_grad()
    def climb(self):
        norm = torch.stack(
            [p.grad.norm() for group in self.param_groups for p in group["params"] if p.grad is not None]
        ).norm()
        for group in self.param_groups:
            scale = group["rho"] / (norm + 1e-12)
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["before"] = p.clone()
                p.add_(p.grad * scale)
        self.zero_grad()

    @torch.no_grad()
    def descend(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.copy_(self.state[p]["before"])
        self.base.step()
        self.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "SAM needs a closure"
        self.climb()
        with torch.enable_grad():
            closure()
        self.descend()


class ResidualBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(4, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(4, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x):
        return x + self.body(x)


def build():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.MaxPool2d(2),
        ResidualBlock(16),
        nn.Conv2d(16, 24, 3, stride=2, padding=1),
        ResidualBlock(24),
        nn.GroupNorm(4, 24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 16, len(NAMES)),
    )


def decay_groups(model, decay):
    """No weight decay for biases and norms."""
    with_decay, without = [], []
    for name, p in model.named_parameters():
        (without if p.ndim <= 1 else with_decay).append(p)
    return [{"params": with_decay, "weight_decay": decay}, {"params": without, "weight_decay": 0.0}]


def evaluate(model, loader):
    model.eval()
    right = torch.zeros(len(NAMES))
    count = torch.zeros(len(NAMES))
    with torch.no_grad():
        for images, labels in loader:
            hit = model(images).argmax(1) == labels
            right += torch.bincount(labels[hit], minlength=len(NAMES))
            count += torch.bincount(labels, minlength=len(NAMES))
    return (right.sum() / count.sum()).item(), (right / count.clamp(min=1)).min().item()


def normalize(image):
    return (image - 0.5) / 0.2


def main():
    torch.manual_seed(0)
    epochs = 16
    train_loader = DataLoader(Shapes(True, transform=normalize), batch_size=32, shuffle=True, drop_last=True)
    val_loader = DataLoader(Shapes(False, transform=normalize), batch_size=120)
    model = build()
    criterion = nn.CrossEntropyLoss()
    optimizer = SAM(decay_groups(model, 5e-4), torch.optim.SGD, rho=0.05, lr=0.04, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.base, epochs)

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for images, labels in train_loader:
            loss = criterion(model(images), labels)
            loss.backward()

            def closure():
                again = criterion(model(images), labels)
                again.backward()
                return again

            optimizer.step(closure)
            total += loss.item()
        scheduler.step()
        accuracy, worst = evaluate(model, val_loader)
        print(f"epoch {epoch:2d}  loss {total / len(train_loader):.4f}  accuracy {accuracy:.3f}  worst class {worst:.3f}")


if __name__ == "__main__":
    main()
