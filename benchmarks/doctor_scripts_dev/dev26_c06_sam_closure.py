"""Sharpness-aware minimization (Foret et al., 2021) with a closure, on digits."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        if rho < 0:
            raise ValueError(f"Invalid rho, should be non-negative: {rho}")
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        norm = self._grad_norm()
        for group in self.param_groups:
            scale = group["rho"] / (norm + 1e-12)
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * scale)  # climb to the local maximum "w + e(w)"
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
        assert closure is not None, "SAM needs a closure that does forward and backward"
        closure = torch.enable_grad()(closure)
        self.first_step(zero_grad=True)
        closure()
        self.second_step()

    def _grad_norm(self):
        norms = [p.grad.norm(p=2) for group in self.param_groups for p in group["params"] if p.grad is not None]
        return torch.norm(torch.stack(norms), p=2)


class WideNet(nn.Module):
    """Group norm, so that the second pass of a step does not change any running statistics."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(4, 24)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, stride=2, bias=False)
        self.norm2 = nn.GroupNorm(4, 48)
        self.conv3 = nn.Conv2d(48, 64, 3, padding=1, stride=2, bias=False)
        self.norm3 = nn.GroupNorm(4, 64)
        self.fc = nn.Linear(64 * 4 * 4, classes)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.relu(self.norm3(self.conv3(x)))
        return self.fc(x.flatten(1))


def batches(images, labels, size, generator):
    order = torch.randperm(len(images), generator=generator)
    for chunk in order.split(size):
        yield images[chunk], labels[chunk]


def main(epochs=14, batch_size=64):
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(2)
    (train_images, train_labels), (test_images, test_labels) = draw_digits(2400, seed=20), draw_digits(500, seed=21)
    train_images, test_images = train_images.float() / 255, test_images.float() / 255
    mean, std = train_images.mean(), train_images.std()
    train_images, test_images = (train_images - mean) / std, (test_images - mean) / std

    model = WideNet()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.03, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer.base_optimizer, milestones=[9, 12], gamma=0.2)

    for epoch in range(epochs):
        model.train()
        loss_sum, right, count = 0.0, 0, 0
        for inputs, targets in batches(train_images, train_labels, batch_size, generator):

            def closure():
                loss = F.cross_entropy(model(inputs), targets)
                loss.backward()
                return loss

            outputs = model(inputs)
            loss = F.cross_entropy(outputs, targets)
            loss.backward()
            optimizer.step(closure)
            optimizer.zero_grad()

            loss_sum += loss.item() * len(inputs)
            right += (outputs.argmax(1) == targets).sum().item()
            count += len(inputs)
        scheduler.step()

        model.eval()
        with torch.no_grad():
            outputs = model(test_images)
            test_loss = F.cross_entropy(outputs, test_labels).item()
            test_accuracy = (outputs.argmax(1) == test_labels).float().mean().item()
        print(
            f"[{epoch + 1:2d}/{epochs}] train loss {loss_sum / count:.4f} acc {100 * right / count:.1f}% "
            f"| test loss {test_loss:.4f} acc {100 * test_accuracy:.1f}%"
        )


if __name__ == "__main__":
    main()
