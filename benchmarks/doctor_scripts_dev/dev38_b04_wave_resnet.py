"""Recognize kinds of one-dimensional recordings with a residual network (mixed precision, one-cycle policy)."""

import os
import tempfile

import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.preprocessing import LabelEncoder
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import waves

CATEGORIES = ("slow sine", "fast sine", "square", "chirp")


def read_fold(count, fold):
    """Signals and their meta table: a file name, the target number of the collection and its category."""
    signals, targets = waves(count=count, length=64, seed=fold)
    meta = pd.DataFrame(
        {
            "file": [f"fold{fold}-{i:04d}.wav" for i in range(count)],
            "target": targets.numpy(),
            "category": [CATEGORIES[t] for t in targets.tolist()],
        }
    )
    return signals, meta


class Recordings(Dataset):
    def __init__(self, signals, targets, training=False):
        self.signals, self.targets = signals, torch.as_tensor(targets)
        self.training = training

    def __len__(self):
        return len(self.signals)

    def __getitem__(self, index):
        signal = self.signals[index]
        if self.training:
            gain = float(torch.empty(1).uniform_(0.8, 1.2))
            polarity = 1.0 if torch.rand(1) < 0.5 else -1.0
            signal = signal * (gain * polarity)
        return signal, self.targets[index]


class ResBlock1d(nn.Module):
    def __init__(self, cin, cout, stride=2, kernel=5):
        super().__init__()
        self.conv1 = nn.Conv1d(cin, cout, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm1d(cout)
        self.conv2 = nn.Conv1d(cout, cout, kernel, padding=kernel // 2, bias=False)
        self.bn2 = nn.BatchNorm1d(cout)
        self.shortcut = nn.Conv1d(cin, cout, 1, stride=stride)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class WaveResNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.blocks = nn.Sequential(
            ResBlock1d(1, width),
            ResBlock1d(width, 2 * width),
            ResBlock1d(2 * width, 4 * width),
        )
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        features = self.blocks(x).mean(dim=-1)
        return self.fc(self.drop(features))


class Trainer:
    def __init__(self, model, train_loader, epochs, max_lr=0.1, clip=1.0):
        self.model, self.train_loader, self.epochs, self.clip = model, train_loader, epochs, clip
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=max_lr, momentum=0.9, weight_decay=5e-4)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=max_lr, total_steps=epochs * len(train_loader)
        )
        self.scaler = torch.amp.GradScaler("cpu")
        self.path = os.path.join(tempfile.mkdtemp(), "best.pt")

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for x, y in self.train_loader:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = self.model(x)
            loss = self.criterion(logits.float(), y)
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.scheduler.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        total, correct = 0.0, 0
        for x, y in loader:
            logits = self.model(x)
            total += self.criterion(logits, y).item() * len(y)
            correct += (logits.argmax(dim=1) == y).sum().item()
        count = len(loader.dataset)
        return total / count, correct / count

    def fit(self, valid_loader):
        best_accuracy = 0.0
        for epoch in range(self.epochs):
            train_loss = self.train_epoch()
            valid_loss, accuracy = self.evaluate(valid_loader)
            print(f"[{epoch + 1:02d}/{self.epochs}] {train_loss:.4f} | {valid_loss:.4f} | {100 * accuracy:.1f} %")
            if accuracy > best_accuracy:
                best_accuracy = accuracy
                torch.save(self.model.state_dict(), self.path)
        self.model.load_state_dict(torch.load(self.path, weights_only=True))
        return best_accuracy


def main():
    torch.manual_seed(11)
    train_signals, train_meta = read_fold(600, fold=1)
    valid_signals, valid_meta = read_fold(300, fold=2)
    test_signals, test_meta = read_fold(300, fold=3)

    encoder = LabelEncoder().fit(train_meta["category"])
    train_set = Recordings(train_signals, encoder.transform(train_meta["category"]), training=True)
    valid_set = Recordings(valid_signals, encoder.transform(valid_meta["category"]))
    test_set = Recordings(test_signals, encoder.transform(test_meta["category"]))

    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_set, batch_size=128)
    test_loader = DataLoader(test_set, batch_size=128)

    trainer = Trainer(WaveResNet(len(encoder.classes_)), train_loader, epochs=12)
    best = trainer.fit(valid_loader)
    _, accuracy = trainer.evaluate(test_loader)
    print(f"best valid accuracy {best:.3f}, test accuracy {accuracy:.3f}, classes {list(encoder.classes_)}")


if __name__ == "__main__":
    main()
