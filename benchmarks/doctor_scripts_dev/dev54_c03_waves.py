"""Audio-like signals of four kinds, 1d convolutions, in the phases idiom of the transfer learning tutorial."""
import copy
import time

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from toydata import waves


class WaveDataset(Dataset):
    def __init__(self, count, seed, mean=None, std=None, augment=False):
        self.signals, self.labels = waves(count, length=64, seed=seed)
        self.mean = self.signals.mean() if mean is None else mean
        self.std = self.signals.std() if std is None else std
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        signal = (self.signals[index] - self.mean) / self.std
        if self.augment:
            gain = 0.8 + 0.4 * torch.rand(())
            signal = gain * signal + 0.05 * torch.randn_like(signal)
        return signal, self.labels[index]


class ConvBlock(nn.Sequential):
    def __init__(self, cin, cout, kernel, stride):
        super().__init__(
            nn.Conv1d(cin, cout, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(cout),
            nn.ReLU(inplace=True),
        )


class WaveNet(nn.Module):
    def __init__(self, classes=4, width=24):
        super().__init__()
        self.features = nn.Sequential(
            ConvBlock(1, width, 9, 1),
            ConvBlock(width, width, 7, 2),
            ConvBlock(width, 2 * width, 5, 2),
        )
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.pool(self.features(x)).flatten(1)
        return self.classifier(self.dropout(x))


def train_model(model, dataloaders, criterion, optimizer, scheduler, device, num_epochs=8):
    since = time.time()
    best_acc = 0.0
    best_weights = copy.deepcopy(model.state_dict())
    for epoch in range(num_epochs):
        print(f"Epoch {epoch}/{num_epochs - 1}")
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()

            running_loss = 0.0
            running_corrects = 0
            for inputs, labels in dataloaders[phase]:
                inputs, labels = inputs.to(device), labels.to(device)
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    loss = criterion(outputs, labels)
                    preds = outputs.argmax(1)
                    if phase == "train":
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                        scheduler.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += (preds == labels).sum().item()

            size = len(dataloaders[phase].dataset)
            epoch_loss, epoch_acc = running_loss / size, running_corrects / size
            print(f"{phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_weights = copy.deepcopy(model.state_dict())
    elapsed = time.time() - since
    print(f"Training complete in {elapsed:.0f}s, best val Acc: {best_acc:.4f}")
    model.load_state_dict(best_weights)
    return model


def main():
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_set = WaveDataset(800, seed=0, augment=True)
    val_set = WaveDataset(240, seed=1, mean=train_set.mean, std=train_set.std)
    dataloaders = {
        "train": DataLoader(train_set, batch_size=32, shuffle=True),
        "val": DataLoader(val_set, batch_size=80),
    }
    model = WaveNet().to(device)
    num_epochs = 8
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    steps = num_epochs * len(dataloaders["train"])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps, pct_start=0.3)
    train_model(model, dataloaders, criterion, optimizer, scheduler, device, num_epochs)


if __name__ == "__main__":
    main()
