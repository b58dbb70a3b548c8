"""A learner with callbacks: random crops, cyclical rates, gradual pruning, statistics by hooks, five-crop validation."""

from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import prune
from torch.optim.lr_scheduler import CyclicLR
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

SIZE, CROP = 20, 16


class Callback:
    def before_fit(self, learner): ...

    def before_batch(self, learner): ...

    def after_batch(self, learner): ...

    def after_epoch(self, learner): ...

    def after_fit(self, learner): ...


class Learner:
    def __init__(self, model, train_loader, valid_loader, optimizer, callbacks):
        self.model, self.optimizer, self.callbacks = model, optimizer, callbacks
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.messages = []

    def notify(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def fit(self, epochs):
        self.notify("before_fit")
        for self.epoch in range(epochs):
            self.model.train()
            total, count = torch.zeros(()), 0
            for self.inputs, self.targets in self.train_loader:
                self.notify("before_batch")
                loss = F.cross_entropy(self.model(self.inputs), self.targets)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.notify("after_batch")
                total += loss.detach() * len(self.targets)
                count += len(self.targets)
            accuracy = self.validate()
            self.messages = [f"loss {total.item() / count:.4f}", f"five-crop accuracy {accuracy:.4f}"]
            self.notify("after_epoch")
            print(f"epoch {self.epoch + 1:2d}:", ", ".join(self.messages), flush=True)
        self.notify("after_fit")

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        correct = count = 0
        for images, labels in self.valid_loader:
            crops = five_crops(images)  # 5 x batch x 1 x CROP x CROP
            logits = self.model(crops.flatten(0, 1)).view(5, len(images), -1)
            correct += (logits.softmax(-1).mean(0).argmax(-1) == labels).sum().item()
            count += len(labels)
        return correct / count


def five_crops(images):
    last = SIZE - CROP
    corners = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
    return torch.stack([images[:, :, top : top + CROP, left : left + CROP] for top, left in corners])


class RandomCrop(Callback):
    """Another crop of every image, each time."""

    def before_batch(self, learner):
        images = learner.inputs
        windows = images.unfold(2, CROP, 1).unfold(3, CROP, 1)  # batch x 1 x 5 x 5 x CROP x CROP
        rows = torch.randint(0, windows.shape[2], (len(images),))
        columns = torch.randint(0, windows.shape[3], (len(images),))
        learner.inputs = windows[torch.arange(len(images)), :, rows, columns]


class CyclicalRate(Callback):
    def __init__(self, base_lr, max_lr, epochs_up):
        self.base_lr, self.max_lr, self.epochs_up = base_lr, max_lr, epochs_up

    def before_fit(self, learner):
        self.scheduler = CyclicLR(
            learner.optimizer,
            base_lr=self.base_lr,
            max_lr=self.max_lr,
            step_size_up=self.epochs_up * len(learner.train_loader),
            mode="triangular2",
            cycle_momentum=False,
        )

    def after_batch(self, learner):
        self.scheduler.step()


class GradualPruning(Callback):
    """Cuts the smallest quarter of the weights that are left, at the ends of some epochs; the last layer is kept whole."""

    def __init__(self, modules, epochs, amount=0.25):
        self.parameters = [(module, "weight") for module in modules]
        self.epochs, self.amount = epochs, amount

    def after_epoch(self, learner):
        if learner.epoch in self.epochs:
            prune.global_unstructured(self.parameters, pruning_method=prune.L1Unstructured, amount=self.amount)
            masks = [buffer for name, buffer in learner.model.named_buffers() if name.endswith("weight_mask")]
            kept = sum(mask.sum().item() for mask in masks) / sum(mask.numel() for mask in masks)
            learner.messages.append(f"pruned to {kept:.0%} of the weights")

    def after_fit(self, learner):
        for module, name in self.parameters:
            if prune.is_pruned(module):
                prune.remove(module, name)
        print(f"pruned for good: five-crop accuracy {learner.validate():.4f}")


class ZeroShare(Callback):
    """The share of zeros behind each ReLU, measured while training."""

    def before_fit(self, learner):
        self.shares = defaultdict(list)
        self.handles = [
            module.register_forward_hook(self.hook_for(name))
            for name, module in learner.model.named_modules()
            if isinstance(module, nn.ReLU)
        ]

    def hook_for(self, name):
        def hook(module, inputs, output):
            if module.training:
                self.shares[name].append((output.detach() == 0).float().mean())

        return hook

    def after_epoch(self, learner):
        means = [torch.stack(values).mean().item() for values in self.shares.values()]
        learner.messages.append("zeros " + " ".join(f"{mean:.2f}" for mean in means))
        self.shares.clear()

    def after_fit(self, learner):
        for handle in self.handles:
            handle.remove()


def conv(inner, outer):
    return [nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(), nn.MaxPool2d(2)]


def main():
    torch.manual_seed(0)
    train_images, train_labels = draw_digits(2500, size=SIZE, seed=0)
    valid_images, valid_labels = draw_digits(400, size=SIZE, seed=1)
    mean, std = train_images.float().mean(), train_images.float().std()
    train_set = TensorDataset((train_images.float() - mean) / std, train_labels)
    valid_set = TensorDataset((valid_images.float() - mean) / std, valid_labels)
    model = nn.Sequential(
        *conv(1, 16), *conv(16, 32), *conv(32, 64), nn.Flatten(), nn.Linear(64 * 2 * 2, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    prunable = [module for module in model if isinstance(module, (nn.Conv2d, nn.Linear))][:-1]
    learner = Learner(
        model,
        DataLoader(train_set, batch_size=50, shuffle=True),
        DataLoader(valid_set, batch_size=50),
        torch.optim.Adam(model.parameters(), lr=5e-4),
        [RandomCrop(), CyclicalRate(5e-4, 4e-3, epochs_up=2), ZeroShare(), GradualPruning(prunable, epochs=(11, 14, 17))],
    )
    learner.fit(26)


if __name__ == "__main__":
    main()
