"""A class that owns model, data, optimizer and loop. The bug: the optimizer has the parameters of the head only."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, broken):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
        learned = self.model[2].parameters() if broken else self.model.parameters()
        self.optimizer = torch.optim.Adam(learned, lr=3e-3)
        self.criterion = nn.CrossEntropyLoss()
        self.history = []
        x, y = load_digits(return_X_y=True)
        x, y = torch.tensor(x, dtype=torch.float32) / 8 - 1, torch.tensor(y)
        self.train_loader = DataLoader(TensorDataset(x[:1300], y[:1300]), batch_size=32, shuffle=True)
        self.val_loader = DataLoader(TensorDataset(x[1300:], y[1300:]), batch_size=100)

    def training_step(self, batch):
        x, y = batch
        loss = self.criterion(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, epochs):
        for _ in range(epochs):
            self.model.train()
            for batch in self.train_loader:
                self.history.append(self.training_step(batch))
            print(f"loss {self.history[-1]:.3f}")


Trainer("--broken" in sys.argv).fit(epochs=1000)
