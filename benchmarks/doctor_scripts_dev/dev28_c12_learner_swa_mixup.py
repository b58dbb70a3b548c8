"""A learner with callbacks: images that grow, mixup, and the average of the last epochs' weights (SWA)."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class Callback:
    def begin_epoch(self, learner): ...
    def batch(self, learner): ...
    def after_epoch(self, learner): ...
    def after_fit(self, learner): ...


class GrowImages(Callback):
    """Small images first: cheaper, and coarse forms before fine ones. Validation is at full size always."""

    def begin_epoch(self, learner):
        self.size = 16 if learner.epoch < learner.epochs // 3 else 24

    def batch(self, learner):
        if learner.x.shape[-1] != self.size:
            learner.x = F.interpolate(learner.x, size=self.size, mode="bilinear", antialias=True, align_corners=False)


class Mixup(Callback):
    def __init__(self, alpha=0.3):
        self.beta = torch.distributions.Beta(alpha, alpha)

    def batch(self, learner):
        share = self.beta.sample().item()
        order = torch.randperm(len(learner.x))
        learner.x = share * learner.x + (1 - share) * learner.x[order]
        first, second = learner.y, learner.y[order]
        learner.loss_of = lambda out: share * F.cross_entropy(out, first) + (1 - share) * F.cross_entropy(out, second)


class StochasticAverage(Callback):
    def __init__(self, last):
        self.last = last

    def after_epoch(self, learner):
        if learner.epoch == learner.epochs - self.last:
            self.average = AveragedModel(learner.model)
        if learner.epoch >= learner.epochs - self.last:
            self.average.update_parameters(learner.model)

    def after_fit(self, learner):
        update_bn(learner.train_loader, self.average)
        print(f"average of {self.last} epochs: accuracy {learner.evaluate(self.average):.4f}")


class Learner:
    def __init__(self, model, train_loader, valid_loader, callbacks):
        self.model, self.train_loader, self.valid_loader, self.callbacks = model, train_loader, valid_loader, callbacks

    def call(self, name):
        for callback in self.callbacks:
            getattr(callback, name)(self)

    def fit(self, epochs, lr):
        self.epochs = epochs
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=0.01)
        # falls to a third and stays there, so that the averaged weights still differ
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: max(1 / 3, 1 - epoch / epochs))
        for self.epoch in range(epochs):
            self.call("begin_epoch")
            self.model.train()
            total = 0.0
            for self.x, self.y in self.train_loader:
                labels = self.y
                self.loss_of = lambda out: F.cross_entropy(out, labels)
                self.call("batch")
                loss = self.loss_of(self.model(self.x))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            scheduler.step()
            print(f"epoch {self.epoch:2d} mixed loss {total / len(self.train_loader):.4f} accuracy {self.evaluate(self.model):.4f}")
            self.call("after_epoch")
        self.call("after_fit")

    @torch.no_grad()
    def evaluate(self, model):
        model.eval()
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in self.valid_loader)
        return right / len(self.valid_loader.dataset)


def conv(a, b, stride=1):
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())


def loader(count, seed, **options):
    images, labels = draw_digits(count, size=24, seed=seed, shift=3)
    return DataLoader(TensorDataset((images.float() / 255 - 0.09) / 0.24, labels), **options)


torch.manual_seed(13)
torch.set_num_threads(1)
network = nn.Sequential(
    conv(1, 16), conv(16, 32, 2), conv(32, 64, 2), conv(64, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
)
learner = Learner(
    network,
    loader(1400, 50, batch_size=50, shuffle=True),
    loader(400, 51, batch_size=100),
    [GrowImages(), Mixup(), StochasticAverage(last=8)],
)
learner.fit(epochs=26, lr=4e-3)
