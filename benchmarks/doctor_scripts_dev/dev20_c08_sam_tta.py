"""Sharpness-aware minimization (two passes per batch) and flips at test time."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        defaults = dict(rho=rho, **kwargs)
        super().__init__(params, defaults)
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        scale = self.param_groups[0]["rho"] / (self._grad_norm() + 1e-12)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * scale)  # up the slope, to the worst point nearby
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.data = self.state[p]["old_p"]  # back to where it was
        self.base_optimizer.step()  # down, with the gradient of the worst point
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
        norms = [p.grad.norm(p=2) for group in self.param_groups for p in group["params"] if p.grad is not None]
        return torch.stack(norms).norm(p=2)


class Net(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.conv4 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        x = F.relu(self.bn4(self.conv4(x)))
        return self.fc(x.mean(dim=(2, 3)))


def set_bn_momentum(model, enabled):
    """The second pass runs at disturbed weights: it should not move the running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1 if enabled else 0.0


def load():
    train, test = Shapes(train=True, count=1500), Shapes(train=False, count=400)
    train_x, test_x = torch.stack(train.images), torch.stack(test.images)
    mean, std = train_x.mean((0, 2, 3), keepdim=True), train_x.std((0, 2, 3), keepdim=True)
    train_set = TensorDataset((train_x - mean) / std, torch.tensor(train.targets))
    test_set = TensorDataset((test_x - mean) / std, torch.tensor(test.targets))
    return DataLoader(train_set, 64, shuffle=True, drop_last=True), DataLoader(test_set, 200)


def flip_some(images):
    which = torch.rand(len(images)) < 0.5
    return torch.where(which[:, None, None, None], images.flip(-1), images)


def predict_tta(model, images):
    views = [images, images.flip(-1), images.flip(-2), images.flip((-2, -1))]
    return torch.stack([model(view).softmax(dim=1) for view in views]).mean(dim=0)


def test(model, loader):
    model.eval()
    plain = averaged = total = 0
    with torch.no_grad():
        for images, labels in loader:
            plain += (model(images).argmax(1) == labels).sum().item()
            averaged += (predict_tta(model, images).argmax(1) == labels).sum().item()
            total += len(labels)
    return plain / total, averaged / total


if __name__ == "__main__":
    torch.manual_seed(8)
    epochs = 24
    train_loader, test_loader = load()
    model = Net()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.base_optimizer, T_max=epochs)
    criterion = nn.CrossEntropyLoss()

    for epoch in range(epochs):
        model.train()
        running = 0.0
        for images, labels in train_loader:
            images = flip_some(images)
            set_bn_momentum(model, True)
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.first_step(zero_grad=True)

            set_bn_momentum(model, False)
            criterion(model(images), labels).backward()
            optimizer.second_step(zero_grad=True)
            running += loss.item()
        scheduler.step()
        plain, averaged = test(model, test_loader)
        print(f"epoch {epoch + 1}: loss {running / len(train_loader):.4f}, test {plain:.4f}, with flips {averaged:.4f}")
