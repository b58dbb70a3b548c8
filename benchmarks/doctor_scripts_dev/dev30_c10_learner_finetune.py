"""A learner with callbacks: learn digits, then new labels on inverted images, the body frozen first, then slower than the head."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits


class Callback:
    def before_fit(self, learner): ...
    def after_batch(self, learner): ...
    def after_epoch(self, learner): ...


class OneCycle(Callback):
    def before_fit(self, learner):
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            learner.optimizer,
            max_lr=[group["lr"] for group in learner.optimizer.param_groups],
            total_steps=learner.epochs * len(learner.train_loader),
        )

    def after_batch(self, learner):
        self.scheduler.step()


class Printer(Callback):
    def after_epoch(self, learner):
        print(f"  {learner.epoch + 1:2d}  train {learner.train_loss:.4f}  val {learner.val_loss:.4f}  acc {learner.accuracy:.3f}")


class Learner:
    def __init__(self, model, train_loader, val_loader, loss_function, callbacks=()):
        self.model, self.train_loader, self.val_loader = model, train_loader, val_loader
        self.loss_function, self.callbacks = loss_function, list(callbacks)

    def call(self, name):
        for callback in self.callbacks:
            getattr(callback, name)(self)

    def freeze(self):
        """All of the body but its batch norms."""
        for module in self.model.body.modules():
            if isinstance(module, nn.Conv2d):
                module.requires_grad_(False)

    def unfreeze(self):
        self.model.requires_grad_(True)

    def fit(self, epochs, groups):
        self.epochs = epochs
        self.optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
        self.call("before_fit")
        for self.epoch in range(epochs):
            self.train_epoch()
            self.validate()
            self.call("after_epoch")

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for inputs, targets in self.train_loader:
            loss = self.loss_function(self.model(inputs), targets)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.call("after_batch")
            total += loss.item()
        self.train_loss = total / len(self.train_loader)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        loss = right = count = 0
        for inputs, targets in self.val_loader:
            outputs = self.model(inputs)
            loss += self.loss_function(outputs, targets).item() * len(targets)
            right += (outputs.argmax(1) == targets).sum().item()
            count += len(targets)
        self.val_loss, self.accuracy = loss / count, right / count


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers, last = [], 1
        for width in (16, 32):
            layers += [nn.Conv2d(last, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            last = width
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, x):
        return self.head(self.body(x))


def plain(image):
    return (image.float() / 255 - 0.17) / 0.3


def inverted(image):
    return (1 - image.float() / 255 - 0.83) / 0.3


def parity_and_size(target):
    return target % 2 + 2 * (target >= 5)


def loaders(**options):
    train = DataLoader(Digits(True, **options), batch_size=32, shuffle=True)
    return train, DataLoader(Digits(False, **options), batch_size=100)


torch.manual_seed(0)
model = Net(10)
print("pretraining")
learner = Learner(model, *loaders(transform=plain), nn.CrossEntropyLoss(), [OneCycle(), Printer()])
learner.fit(6, [{"params": model.parameters(), "lr": 3e-3}])

print("new task, body frozen")
model.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 4))
learner = Learner(
    model,
    *loaders(transform=inverted, target_transform=parity_and_size),
    nn.CrossEntropyLoss(),
    [OneCycle(), Printer()],
)
learner.freeze()
learner.fit(3, [{"params": [p for p in model.parameters() if p.requires_grad], "lr": 3e-3}])

print("new task, all layers")
learner.unfreeze()
learner.fit(
    8,
    [
        {"params": model.body[:4].parameters(), "lr": 5e-4},
        {"params": model.body[4:].parameters(), "lr": 1e-3},
        {"params": model.head.parameters(), "lr": 3e-3},
    ],
)
