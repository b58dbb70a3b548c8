# Ordinal regression on images, with a small fit/evaluate wrapper in the manner of Keras.
# The grade k of a picture (0..9) becomes nine yes/no questions: "is the grade above 0, above 1, ...?"
import copy

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import toydata

GRADES = 10


def to_levels(grade):
    return (grade[:, None] > torch.arange(GRADES - 1)[None, :]).float()


def to_grade(logits):
    return (torch.sigmoid(logits) > 0.5).sum(dim=1)


class GradeNet(nn.Module):
    def __init__(self, dropout=0.4):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.fc1 = nn.Linear(32 * 4 * 4, 128)
        self.drop = nn.Dropout(dropout)
        self.fc2 = nn.Linear(128, GRADES - 1)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 2)
        x = torch.max_pool2d(torch.relu(self.bn2(self.conv2(x))), 2)
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.drop(x))


class Model:
    def __init__(self, net):
        self.net = net
        self.history = {"loss": [], "val_loss": [], "val_mae": []}

    def compile(self, optimizer, loss, scheduler=None):
        self.optimizer, self.loss, self.scheduler = optimizer, loss, scheduler

    def call(self, x):
        return self.net(x)

    def train_on_batch(self, x, y):
        self.optimizer.zero_grad()
        loss = self.loss(self.call(x), to_levels(y))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self, x, y, batch_size=128):
        self.net.eval()
        logits = torch.cat([self.call(part) for part in x.split(batch_size)])
        loss = self.loss(logits, to_levels(y)).item()
        mae = (to_grade(logits) - y).abs().float().mean().item()
        return loss, mae

    def fit(self, x, y, validation_data, epochs=10, batch_size=32, patience=4):
        loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True, drop_last=True)
        best_mae, best_weights, waited = float("inf"), None, 0
        for epoch in range(1, epochs + 1):
            self.net.train()
            losses = [self.train_on_batch(xb, yb) for xb, yb in loader]
            val_loss, val_mae = self.evaluate(*validation_data)
            if self.scheduler is not None:
                self.scheduler.step(val_loss)
            self.history["loss"].append(float(np.mean(losses)))
            self.history["val_loss"].append(val_loss)
            self.history["val_mae"].append(val_mae)
            print(
                f"Epoch {epoch}/{epochs} - loss: {np.mean(losses):.4f}"
                f" - val_loss: {val_loss:.4f} - val_mae: {val_mae:.4f}"
            )
            if val_mae < best_mae:
                best_mae, waited = val_mae, 0
                best_weights = copy.deepcopy(self.net.state_dict())
            else:
                waited += 1
                if waited >= patience:
                    print("Early stopping.")
                    break
        self.net.load_state_dict(best_weights)
        return self.history


if __name__ == "__main__":
    torch.manual_seed(2024)
    np.random.seed(2024)

    images, grades = toydata.draw_digits(1500, seed=5)
    rows = np.arange(len(images))
    fit_rows, val_rows = train_test_split(rows, test_size=0.2, random_state=0, stratify=grades.numpy())
    pixels = images.float() / 255
    mean, std = pixels[fit_rows].mean(), pixels[fit_rows].std()
    pixels = (pixels - mean) / std
    x_train, y_train = pixels[fit_rows], grades[fit_rows]
    x_val, y_val = pixels[val_rows], grades[val_rows]

    test_images, y_test = toydata.draw_digits(400, seed=6)
    x_test = (test_images.float() / 255 - mean) / std

    net = GradeNet()
    model = Model(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-4, weight_decay=1e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=1)
    model.compile(optimizer, nn.BCEWithLogitsLoss(), plateau)
    model.fit(x_train, y_train, validation_data=(x_val, y_val), epochs=15)

    test_loss, test_mae = model.evaluate(x_test, y_test)
    print(f"test loss {test_loss:.4f}, mean absolute error {test_mae:.4f} grades")
