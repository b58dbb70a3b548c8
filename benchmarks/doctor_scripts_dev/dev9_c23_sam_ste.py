"""SAM (two forward-backward passes) on a small conv net with ternary last-stage activations through a custom autograd.Function."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


class TernarySTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign() * (x.abs() > 0.4).to(x.dtype)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * (x.abs() <= 1.5).to(x.dtype)


class Ternary(nn.Module):
    def forward(self, x):
        return TernarySTE.apply(x)


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grads = [p.grad.norm(2) for g in self.param_groups for p in g["params"] if p.grad is not None]
        grad_norm = torch.norm(torch.stack(grads), p=2)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None: continue
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * (group["rho"] / (grad_norm + 1e-12)))
        if zero_grad: self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None: continue
                p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad: self.zero_grad()

    def step(self, closure=None):
        raise NotImplementedError("use first_step and second_step")


def set_running(model, on):
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            if on and hasattr(m, "backup_momentum"):
                m.momentum = m.backup_momentum
            elif not on:
                m.backup_momentum, m.momentum = m.momentum, 0


def smooth_crossentropy(pred, gold, smoothing=0.1):
    n_class = pred.size(1)
    one_hot = torch.full_like(pred, smoothing / (n_class - 1)).scatter_(1, gold.unsqueeze(1), 1.0 - smoothing)
    return F.kl_div(F.log_softmax(pred, 1), one_hot, reduction="none").sum(-1)


torch.manual_seed(42)
prep = lambda u: (u.float() / 255 - 0.17) / 0.3
dataset = {"train": DataLoader(Digits(True, transform=prep), 48, shuffle=True), "test": DataLoader(Digits(False, transform=prep), 100)}
model = nn.Sequential(
    nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU(),
    nn.Flatten(), nn.Linear(24 * 16, 64), nn.LayerNorm(64), Ternary(), nn.Linear(64, 10))
optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.05, momentum=0.9, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.base_optimizer, 12)

for epoch in range(12):
    model.train()
    seen, hits, run = 0, 0, 0.0
    for inputs, targets in dataset["train"]:
        set_running(model, True)
        predictions = model(inputs)
        loss = smooth_crossentropy(predictions, targets)
        loss.mean().backward()
        optimizer.first_step(zero_grad=True)
        set_running(model, False)
        smooth_crossentropy(model(inputs), targets).mean().backward()
        optimizer.second_step(zero_grad=True)
        with torch.no_grad():
            hits += (predictions.argmax(1) == targets).sum().item()
            run += loss.sum().item()
            seen += len(targets)
    scheduler.step()
    model.eval()
    with torch.no_grad():
        correct = torch.cat([model(a).argmax(1) == b for a, b in dataset["test"]]).float().mean()
    print(f"| {epoch:2d} | train {run / seen:.4f} {hits / seen:7.2%} | lr {scheduler.get_last_lr()[0]:.4f} | test {correct.item():7.2%} |")
