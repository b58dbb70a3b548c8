"""A Keras-like Model class; the task: name all the shapes of an image (several labels)."""
import torch
import torch.nn as nn

from toydata import NAMES, Shapes


def load_data(train, count):
    """Images with two shapes side by side; y tells which of the six kinds are there."""
    source = Shapes(train=train, count=2 * count)
    images = torch.stack(source.images)
    names = torch.tensor(source.targets)
    x = torch.cat([images[0::2], images[1::2]], dim=3)
    y = torch.zeros(count, len(NAMES))
    y[torch.arange(count), names[0::2]] = 1
    y[torch.arange(count), names[1::2]] = 1
    return (x - 0.5) / 0.2, y


class F1Score:
    def __init__(self, threshold=0.5):
        self.threshold = threshold
        self.reset_state()

    def reset_state(self):
        self.tp = self.fp = self.fn = 0.0

    def update_state(self, y_true, y_prob):
        y_pred = (y_prob > self.threshold).float()
        self.tp += (y_pred * y_true).sum().item()
        self.fp += (y_pred * (1 - y_true)).sum().item()
        self.fn += ((1 - y_pred) * y_true).sum().item()

    def result(self):
        return 2 * self.tp / max(1.0, 2 * self.tp + self.fp + self.fn)


class Callback:
    model = None

    def on_epoch_begin(self, epoch):
        pass

    def on_epoch_end(self, epoch, logs):
        pass


class LearningRateScheduler(Callback):
    def __init__(self, schedule):
        self.schedule = schedule

    def on_epoch_begin(self, epoch):
        for group in self.model.optimizer.param_groups:
            group["lr"] = self.schedule(epoch)


class Model(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)

    def compile(self, optimizer, loss, metric):
        self.optimizer, self.loss, self.metric = optimizer, loss, metric

    def batches(self, x, y, batch_size, shuffle):
        order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
        for index in order.split(batch_size):
            yield x[index], y[index]

    def train_step(self, x, y):
        logits = self(x)
        loss = self.loss(logits, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.metric.update_state(y, torch.sigmoid(logits.detach()))
        return loss.item()

    def test_step(self, x, y):
        logits = self(x)
        self.metric.update_state(y, torch.sigmoid(logits))
        return self.loss(logits, y).item()

    def fit(self, x, y, batch_size=32, epochs=1, validation_data=None, callbacks=()):
        history = []
        for callback in callbacks:
            callback.model = self
        for epoch in range(epochs):
            for callback in callbacks:
                callback.on_epoch_begin(epoch)
            self.train()
            self.metric.reset_state()
            total = 0.0
            for xb, yb in self.batches(x, y, batch_size, shuffle=True):
                total += self.train_step(xb, yb) * len(xb)
            logs = {"loss": total / len(x), "f1": self.metric.result()}
            if validation_data is not None:
                val_loss, val_f1 = self.evaluate(*validation_data)
                logs.update(val_loss=val_loss, val_f1=val_f1)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs)
            history.append(logs)
        return history

    @torch.no_grad()
    def evaluate(self, x, y, batch_size=100):
        self.eval()
        self.metric.reset_state()  # nothing of the training epoch
        total = 0.0
        for xb, yb in self.batches(x, y, batch_size, shuffle=False):
            total += self.test_step(xb, yb) * len(xb)
        return total / len(x), self.metric.result()

    @torch.no_grad()
    def predict(self, x):
        self.eval()
        return torch.sigmoid(self(x))


def conv(cin, cout):
    return [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]


torch.manual_seed(0)
x_train, y_train = load_data(train=True, count=1200)
x_val, y_val = load_data(train=False, count=300)

model = Model([
    *conv(3, 16),
    nn.MaxPool2d(2),
    *conv(16, 32),
    *conv(32, 32),
    nn.MaxPool2d(2),
    *conv(32, 64),
    nn.AdaptiveMaxPool2d(1),
    nn.Flatten(),
    nn.Linear(64, len(NAMES)),
])
model.compile(
    optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4),
    loss=nn.BCEWithLogitsLoss(),
    metric=F1Score(),
)
model.fit(
    x_train, y_train, batch_size=64, epochs=25, validation_data=(x_val, y_val),
    callbacks=[LearningRateScheduler(lambda epoch: 0.1 if epoch < 16 else 0.01)],
)
exact = ((model.predict(x_val) > 0.5).float() == y_val).all(dim=1).float().mean().item()
print(f"images with all labels right: {exact:.4f}")
