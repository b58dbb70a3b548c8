"""Sequential with compile() and fit(), as someone used to Keras would write it; VGG-like; plateau schedule, early stopping."""
import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from toydata import draw_digits


class Sequential(nn.Sequential):
    def compile(self, optimizer, loss, metrics):
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics
        return self

    def _batches(self, x, y, batch_size, shuffle):
        order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
        for i in order.split(batch_size):
            yield x[i], y[i]

    def fit(self, x, y, batch_size=32, epochs=10, validation_data=None, callbacks=()):
        history = {}
        self.stop_training = False
        for callback in callbacks:
            callback.set_model(self)
        for epoch in range(epochs):
            self.train()
            seen, total = 0, 0.0
            for xb, yb in self._batches(x, y, batch_size, shuffle=True):
                self.optimizer.zero_grad()
                loss = self.loss(self(xb), yb)
                loss.backward()
                self.optimizer.step()
                seen += len(xb)
                total += loss.item() * len(xb)
            logs = {"loss": total / seen}
            if validation_data is not None:
                logs.update({f"val_{k}": v for k, v in self.evaluate(*validation_data).items()})
            for key, value in logs.items():
                history.setdefault(key, []).append(value)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        for callback in callbacks:
            callback.on_train_end()
        return history

    @torch.no_grad()
    def predict(self, x, batch_size=128):
        self.eval()
        return torch.cat([self(xb) for xb in x.split(batch_size)])

    def evaluate(self, x, y):
        out = self.predict(x)
        result = {"loss": self.loss(out, y).item()}
        for name, metric in self.metrics.items():
            result[name] = metric(out, y)
        return result


class EarlyStopping:
    def __init__(self, monitor="val_loss", patience=8):
        self.monitor, self.patience = monitor, patience
        self.best, self.wait, self.best_weights = np.inf, 0, None

    def set_model(self, model):
        self.model = model

    def on_epoch_end(self, epoch, logs):
        if logs[self.monitor] < self.best:
            self.best, self.wait = logs[self.monitor], 0
            self.best_weights = copy.deepcopy(self.model.state_dict())
        else:
            self.wait += 1
            if self.wait >= self.patience:
                print("early stop")
                self.model.stop_training = True

    def on_train_end(self):
        self.model.load_state_dict(self.best_weights)


class ReduceLROnPlateau:
    def __init__(self, monitor="val_loss", factor=0.3, patience=3):
        self.monitor, self.options = monitor, dict(mode="min", factor=factor, patience=patience)

    def set_model(self, model):
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(model.optimizer, **self.options)

    def on_epoch_end(self, epoch, logs):
        self.scheduler.step(logs[self.monitor])

    def on_train_end(self):
        pass


def vgg_block(i, o):
    return [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1),
            nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]


torch.manual_seed(11)
x_train, y_train = draw_digits(1200, seed=30, noise=0.25)
x_val, y_val = draw_digits(300, seed=31, noise=0.25)
x_test, y_test = draw_digits(300, seed=32, noise=0.25)
mean, std = (x_train / 255.0).mean(), (x_train / 255.0).std()
x_train, x_val, x_test = [(x / 255.0 - mean) / std for x in (x_train, x_val, x_test)]

model = Sequential(*vgg_block(1, 16), *vgg_block(16, 32), nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 10))
model.compile(optimizer=torch.optim.RMSprop(model.parameters(), lr=5e-4), loss=F.cross_entropy,
              metrics={"accuracy": lambda out, y: (out.argmax(1) == y).float().mean().item()})
model.fit(x_train, y_train, batch_size=32, epochs=25, validation_data=(x_val, y_val),
          callbacks=[EarlyStopping(), ReduceLROnPlateau()])
print("test", model.evaluate(x_test, y_test))
