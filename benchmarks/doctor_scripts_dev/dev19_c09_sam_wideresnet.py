"""Sharpness-aware minimization (Foret et al. 2021) with a small pre-activation wide ResNet, after davda54/sam."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, adaptive=False, **kwargs):
        assert rho >= 0.0, f"Invalid rho, should be non-negative: {rho}"
        defaults = dict(rho=rho, adaptive=adaptive, **kwargs)
        super().__init__(params, defaults)
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grad_norm = self._grad_norm()
        for group in self.param_groups:
            scale = group["rho"] / (grad_norm + 1e-12)
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.data.clone()
                e_w = (torch.pow(p, 2) if group["adaptive"] else 1.0) * p.grad * scale.to(p)
                p.add_(e_w)  # climb to the local maximum "w + e(w)"
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.data = self.state[p]["old_p"]  # back to "w"
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "SAM needs a closure"
        closure = torch.enable_grad()(closure)
        self.first_step(zero_grad=True)
        closure()
        self.second_step()

    def _grad_norm(self):
        norms = [
            ((torch.abs(p) if group["adaptive"] else 1.0) * p.grad).norm(p=2)
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        return torch.norm(torch.stack(norms), p=2)


def disable_running_stats(model):
    def _disable(module):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.backup_momentum = module.momentum
            module.momentum = 0

    model.apply(_disable)


def enable_running_stats(model):
    def _enable(module):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and hasattr(module, "backup_momentum"):
            module.momentum = module.backup_momentum

    model.apply(_enable)


class PreActBlock(nn.Module):
    def __init__(self, cin, cout, stride, dropout=0.0):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(cin), nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(cout), nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.drop = nn.Dropout(dropout)
        self.skip = nn.Conv2d(cin, cout, 1, stride, bias=False) if cin != cout or stride != 1 else None

    def forward(self, x):
        pre = F.relu(self.bn1(x))
        out = self.conv2(self.drop(F.relu(self.bn2(self.conv1(pre)))))
        return out + (self.skip(pre) if self.skip is not None else x)


class WideResNet(nn.Module):
    def __init__(self, widths=(16, 24, 48), classes=10, dropout=0.1):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, 1, 1, bias=False)
        blocks, cin = [], 8
        for i, w in enumerate(widths):
            blocks.append(PreActBlock(cin, w, 1 if i == 0 else 2, dropout))
            cin = w
        self.blocks = nn.Sequential(*blocks)
        self.bn, self.fc = nn.BatchNorm2d(cin), nn.Linear(cin, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, std=math.sqrt(2 / (m.kernel_size[0] * m.kernel_size[1] * m.out_channels)))

    def forward(self, x):
        x = F.relu(self.bn(self.blocks(self.conv(x))))
        return self.fc(x.mean((2, 3)))


def smooth_crossentropy(pred, gold, smoothing=0.1):
    n_class = pred.size(1)
    one_hot = torch.full_like(pred, fill_value=smoothing / (n_class - 1))
    one_hot.scatter_(dim=1, index=gold.unsqueeze(1), value=1.0 - smoothing)
    return F.kl_div(F.log_softmax(pred, dim=1), one_hot, reduction="none").sum(-1)


class StepLR:
    def __init__(self, optimizer, learning_rate, total_epochs):
        self.optimizer, self.total_epochs, self.base = optimizer, total_epochs, learning_rate

    def __call__(self, epoch):
        factor = 1.0 if epoch < self.total_epochs * 6 / 10 else 0.2 if epoch < self.total_epochs * 8 / 10 else 0.04
        for group in self.optimizer.param_groups:
            group["lr"] = self.base * factor


def main(epochs=18, batch_size=64, lr=0.05):
    torch.manual_seed(5)
    to_tensor = lambda image: (image.float() / 255 - 0.24) / 0.33
    train_loader = DataLoader(Digits(True, count=1800, noise=0.15, transform=to_tensor), batch_size, shuffle=True)
    test_loader = DataLoader(Digits(False, count=400, noise=0.15, transform=to_tensor), 200)

    model = WideResNet()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=lr, momentum=0.9, weight_decay=5e-4)
    scheduler = StepLR(optimizer, lr, epochs)

    for epoch in range(epochs):
        scheduler(epoch)
        model.train()
        loss_sum, correct, seen = 0.0, 0, 0
        for inputs, targets in train_loader:
            enable_running_stats(model)
            predictions = model(inputs)
            loss = smooth_crossentropy(predictions, targets)
            loss.mean().backward()

            def closure():
                disable_running_stats(model)  # the statistics are those of the first pass
                second = smooth_crossentropy(model(inputs), targets).mean()
                second.backward()
                return second

            optimizer.step(closure)
            optimizer.zero_grad()
            with torch.no_grad():
                loss_sum += loss.sum().item()
                correct += (predictions.argmax(1) == targets).sum().item()
                seen += len(targets)

        model.eval()
        with torch.no_grad():
            hits = torch.cat([model(x).argmax(1) == t for x, t in test_loader]).float().mean().item()
        print(f"epoch {epoch:2d} loss {loss_sum / seen:.3f} train {100 * correct / seen:.2f}% test {100 * hits:.2f}%")


if __name__ == "__main__":
    main()
