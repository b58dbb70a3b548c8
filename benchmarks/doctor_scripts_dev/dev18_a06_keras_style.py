# %% A Keras-like model (compile, fit, evaluate, predict) on top of PyTorch
import glob
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn

from toydata import draw_digits

np.random.seed(0)
torch.manual_seed(0)


# %% images in one folder a class, as they come out of the unpacked archive
def unpack_archive(root, count=2400):
    images, labels = draw_digits(count, noise=0.3, seed=3)
    for number, (image, label) in enumerate(zip(images, labels.tolist())):
        os.makedirs(os.path.join(root, f"{label}"), exist_ok=True)
        np.save(os.path.join(root, f"{label}", f"img_{number:05d}.npy"), image.numpy())


def images_from_directory(root):
    images, labels = [], []
    class_names = sorted(os.listdir(root))
    for label, name in enumerate(class_names):
        for path in sorted(glob.glob(os.path.join(root, name, "*.npy"))):
            images.append(np.load(path))
            labels.append(label)
    return np.stack(images).astype("float32") / 255.0, np.array(labels), class_names


def to_categorical(labels, num_classes):
    return np.eye(num_classes, dtype="float32")[labels]


# %% the model
def categorical_crossentropy(y_true, y_pred):
    return -(y_true * torch.log(y_pred.clamp(1e-7, 1.0))).sum(dim=1)


def categorical_accuracy(y_true, y_pred):
    return (y_pred.argmax(dim=1) == y_true.argmax(dim=1)).float()


def binary_accuracy(y_true, y_pred):
    return ((y_pred > 0.5).float() == y_true).float().mean(dim=1)


LOSSES = {"categorical_crossentropy": categorical_crossentropy}
METRICS = {"categorical_accuracy": categorical_accuracy, "binary_accuracy": binary_accuracy}


class ReduceLROnPlateau:
    def __init__(self, monitor="val_loss", factor=0.1, patience=2, mode="min"):
        self.monitor, self.factor, self.patience, self.mode = monitor, factor, patience, mode
        self.best, self.wait = None, 0

    def on_epoch_end(self, model, logs):
        value = logs[self.monitor]
        if self.best is None or (value < self.best if self.mode == "min" else value > self.best):
            self.best, self.wait = value, 0
            return
        self.wait += 1
        if self.wait >= self.patience:
            self.wait = 0
            for group in model.optimizer.param_groups:
                group["lr"] *= self.factor


class EarlyStopping:
    def __init__(self, monitor="val_loss", patience=4):
        self.monitor, self.patience, self.best, self.wait, self.weights = monitor, patience, float("inf"), 0, None

    def on_epoch_end(self, model, logs):
        if logs[self.monitor] < self.best:
            self.best, self.wait = logs[self.monitor], 0
            self.weights = {name: value.clone() for name, value in model.net.state_dict().items()}
        else:
            self.wait += 1
            model.stop_training = self.wait >= self.patience

    def on_train_end(self, model):
        model.net.load_state_dict(self.weights)


class Sequential:
    def __init__(self, layers):
        self.net = nn.Sequential(*layers)
        self.stop_training = False

    def compile(self, optimizer, loss, metrics):
        self.optimizer, self.loss, self.metrics = optimizer, LOSSES[loss], {name: METRICS[name] for name in metrics}

    def train_step(self, x, y):
        self.net.train()
        y_pred = self.net(x)
        loss = self.loss(y, y_pred).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, x, batch_size=128):
        self.net.eval()
        with torch.no_grad():
            return torch.cat([self.net(chunk) for chunk in torch.as_tensor(x).split(batch_size)])

    def evaluate(self, x, y):
        y_pred, y = self.predict(x), torch.as_tensor(y)
        results = {"loss": self.loss(y, y_pred).mean().item()}
        results.update({name: metric(y, y_pred).mean().item() for name, metric in self.metrics.items()})
        return results

    def fit(self, x, y, batch_size=32, epochs=1, validation_split=0.0, callbacks=()):
        held = int(len(x) * (1 - validation_split))
        x, y, x_val, y_val = torch.as_tensor(x[:held]), torch.as_tensor(y[:held]), x[held:], y[held:]
        history = []
        for epoch in range(epochs):
            losses = [self.train_step(x[rows], y[rows]) for rows in torch.randperm(len(x)).split(batch_size)]
            logs = {"loss": float(np.mean(losses))}
            logs.update({f"val_{name}": value for name, value in self.evaluate(x_val, y_val).items()})
            history.append(logs)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{name}: {v:.4f}" for name, v in logs.items()))
            for callback in callbacks:
                callback.on_epoch_end(self, logs)
            if self.stop_training:
                break
        for callback in callbacks:
            if hasattr(callback, "on_train_end"):
                callback.on_train_end(self)
        print("best weights:", self.evaluate(x_val, y_val))
        return history


# %% data
with tempfile.TemporaryDirectory() as root:
    unpack_archive(root)
    x, y, class_names = images_from_directory(root)
order = np.random.permutation(len(x))
x, y = x[order], to_categorical(y[order], len(class_names))

# %% train
model = Sequential([
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dropout(0.4), nn.Linear(64 * 2 * 2, len(class_names)), nn.Softmax(dim=1),
])
optimizer = torch.optim.SGD(model.net.parameters(), lr=0.02, momentum=0.9)
model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["categorical_accuracy"])
history = model.fit(
    x, y, batch_size=64, epochs=14, validation_split=0.2,
    callbacks=[ReduceLROnPlateau(monitor="val_loss", factor=0.1, patience=2, mode="min"), EarlyStopping()],
)
