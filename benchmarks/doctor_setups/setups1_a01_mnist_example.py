"""Digit classification after pytorch/examples/mnist."""

from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader

from toydata import Digits


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class ToFloat:
    def __call__(self, image):
        return image.float() / 255


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image - self.mean) / self.std


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, 1, padding=1)
        self.dropout1 = nn.Dropout(0.1)
        self.dropout2 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(512, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout2(x)
        x = self.fc2(x)
        output = F.log_softmax(x, dim=1)
        return output


def criterion(output, target):
    """Mean negative log likelihood of the target class."""
    picked = output.gather(1, target.unsqueeze(1)).squeeze(1)
    return -picked.mean()


class Trainer:
    """The body of train() for one batch, and the StepLR that main() steps after each epoch."""

    def __init__(self, args, steps_per_epoch):
        self.args = args
        self.steps_per_epoch = steps_per_epoch
        self.batch_idx = 0

    def adjust_learning_rate(self, optimizer):
        for group in optimizer.param_groups:
            group["lr"] *= self.args.gamma

    def __call__(self, model, batch, optimizer, loss_fn):
        data, target = batch
        model.train()
        optimizer.zero_grad()
        output = model(data)
        loss = loss_fn(output, target)
        loss.backward()
        optimizer.step()
        self.batch_idx += 1
        if self.batch_idx % self.steps_per_epoch == 0:
            self.adjust_learning_rate(optimizer)
        return loss


def setup():
    args = SimpleNamespace(batch_size=64, test_batch_size=100, lr=1.0, gamma=0.9, seed=1)
    torch.manual_seed(args.seed)

    transform = Compose([ToFloat(), Normalize(0.15, 0.29)])
    dataset1 = Digits(train=True, transform=transform)
    dataset2 = Digits(train=False, transform=transform)
    train_loader = DataLoader(dataset1, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(dataset2, batch_size=args.test_batch_size)

    model = Net()
    optimizer = optim.Adadelta(model.parameters(), lr=args.lr)
    return {
        "model": model,
        "train": train_loader,
        "val": test_loader,
        "loss": criterion,
        "optimizer": optimizer,
        "step": Trainer(args, len(train_loader)),
        "task": "classify",
    }
