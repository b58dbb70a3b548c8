"""Few labels, many signals: a teacher, pseudo labels where it is sure, a student. A learner with callbacks."""
import os
import sys

import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import waves

torch.manual_seed(2)
torch.set_num_threads(1)


class Callback:
    def before_fit(self, learner): ...
    def before_batch(self, learner): ...
    def after_step(self, learner): ...
    def after_epoch(self, learner): ...


class OneCycle(Callback):
    def __init__(self, max_lr):
        self.max_lr = max_lr

    def before_fit(self, learner):
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            learner.optimizer, self.max_lr, total_steps=learner.epochs * len(learner.train_loader)
        )

    def after_step(self, learner):
        self.scheduler.step()


class Jitter(Callback):
    """Loudness and noise, in training only."""

    def before_batch(self, learner):
        loudness = 0.8 + 0.4 * torch.rand(len(learner.x), 1, 1)
        learner.x = learner.x * loudness + 0.05 * torch.randn_like(learner.x)


class Report(Callback):
    def __init__(self, title):
        self.title = title

    def after_epoch(self, learner):
        print(f"{self.title} epoch {learner.epoch:2d} loss {learner.train_loss:.4f} val acc {learner.accuracy():.3f}")


class Learner:
    def __init__(self, model, train_loader, val_loader, loss_function, lr, callbacks):
        self.model, self.train_loader, self.val_loader = model, train_loader, val_loader
        self.loss_function, self.callbacks = loss_function, callbacks
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)

    def call(self, name):
        for callback in self.callbacks:
            getattr(callback, name)(self)

    def fit(self, epochs):
        self.epochs = epochs
        self.call("before_fit")
        for self.epoch in range(epochs):
            self.model.train()
            total, count = 0.0, 0
            for self.x, self.y in self.train_loader:
                self.call("before_batch")
                loss = self.loss_function(self.model(self.x), self.y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.call("after_step")
                total += loss.item() * len(self.y)
                count += len(self.y)
            self.train_loss = total / count
            self.call("after_epoch")
        return self

    @torch.no_grad()
    def accuracy(self):
        self.model.eval()
        right = sum((self.model(x).argmax(1) == y).sum().item() for x, y in self.val_loader)
        return right / len(self.val_loader.dataset)


def make_model(width):
    def block(inputs, outputs, kernel):
        return [
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(2)
        ]

    return nn.Sequential(
        *block(1, width, 7), *block(width, 2 * width, 5), *block(2 * width, 2 * width, 3),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(2 * width, 4),
    )


def predict(model, signals):
    model.eval()
    with torch.no_grad():
        return model(signals).softmax(1)


# one long draw, cut into labeled, unlabeled and validation signals
signals, labels = waves(count=3000, seed=0)
signals = signals / 0.72
labeled = TensorDataset(signals[:200], labels[:200])
pool = signals[200:2600]
val_loader = DataLoader(TensorDataset(signals[2600:], labels[2600:]), batch_size=200)

teacher = make_model(24)
Learner(
    teacher, DataLoader(labeled, 25, shuffle=True), val_loader, nn.CrossEntropyLoss(), 3e-3,
    [OneCycle(5e-3), Jitter(), Report("teacher")],
).fit(30)

probabilities = predict(teacher, pool)
confidence, guesses = probabilities.max(1)
sure = confidence > 0.9
print(f"pseudo labels for {int(sure.sum())} of {len(pool)} signals: {torch.bincount(guesses[sure], minlength=4).tolist()}")

student = make_model(32)
train_set = ConcatDataset([labeled, TensorDataset(pool[sure], guesses[sure])])
learner = Learner(
    student, DataLoader(train_set, 32, shuffle=True, drop_last=True), val_loader,
    nn.CrossEntropyLoss(label_smoothing=0.05), 3e-3, [OneCycle(4e-3), Jitter(), Report("student")],
).fit(15)
print(f"student: val acc {learner.accuracy():.3f}")
