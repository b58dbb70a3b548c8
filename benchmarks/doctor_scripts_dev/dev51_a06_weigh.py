# Weighing parts with a camera: a convolutional network estimates grams from one picture.
# A few Keras habits (compile, fit, predict, callbacks) on top of PyTorch.
import copy

import numpy as np
import torch
from torch import nn

import toydata

np.random.seed(0)
torch.manual_seed(0)


def load_parts(train):
    """Pictures (N, 3, 24, 24) and masses: red parts are denser than blue ones."""
    shapes = toydata.Shapes(train=train, size=24)
    pictures = torch.stack(shapes.images).numpy()
    area = np.array([(mask > 0).sum().item() for mask in shapes.masks], dtype=np.float32)
    density = np.array([1.0 if name.startswith("red") else 0.6 for name in shapes.names], dtype=np.float32)
    return ((pictures - 0.5) / 0.2).astype(np.float32), (density * area ** 1.5).astype(np.float32)


class PartNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        self.regressor = nn.Sequential(
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, x):
        return self.regressor(self.features(x))


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.wait, self.best, self.weights = patience, 0, float("inf"), None

    def on_epoch_end(self, model, logs):
        if logs["val_loss"] < self.best:
            self.best, self.wait = logs["val_loss"], 0
            self.weights = copy.deepcopy(model.network.state_dict())
        else:
            self.wait += 1
            model.stop_training = self.wait >= self.patience

    def on_train_end(self, model):
        model.network.load_state_dict(self.weights)


class ReduceLROnPlateau:
    def __init__(self, factor, patience):
        self.options, self.scheduler = dict(mode="min", factor=factor, patience=patience), None

    def on_epoch_end(self, model, logs):
        if self.scheduler is None:
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(model.optimizer, **self.options)
        self.scheduler.step(logs["val_loss"])

    def on_train_end(self, model):
        pass


class Model:
    def __init__(self, network):
        self.network = network
        self.stop_training = False

    def compile(self, optimizer, loss):
        self.optimizer, self.loss = optimizer, loss

    @staticmethod
    def augment(batch):
        """A part weighs the same whichever way round it lies."""
        if np.random.rand() < 0.5:
            batch = batch.flip(-1)
        return torch.rot90(batch, int(np.random.randint(4)), (2, 3))

    def train_on_batch(self, x, y):
        outputs = self.network(self.augment(torch.from_numpy(x)))
        loss = self.loss(outputs.squeeze(1), torch.from_numpy(y))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, x, batch_size=128):
        self.network.eval()
        with torch.no_grad():
            chunks = [self.network(chunk).numpy() for chunk in torch.from_numpy(x).split(batch_size)]
        return np.concatenate(chunks).ravel()

    def fit(self, x, y, batch_size, epochs, validation_data, callbacks=()):
        history = {"loss": [], "val_loss": []}
        x_val, y_val = validation_data
        for epoch in range(epochs):
            self.network.train()
            order, seen = np.random.permutation(len(x)), 0.0
            for start in range(0, len(x), batch_size):
                rows = order[start:start + batch_size]
                seen += self.train_on_batch(x[rows], y[rows]) * len(rows)
            val_loss = float(np.mean((self.predict(x_val) - y_val) ** 2))
            logs = {"loss": seen / len(x), "val_loss": val_loss}
            for name, value in logs.items():
                history[name].append(value)
            print(f"Epoch {epoch + 1}/{epochs} - loss: {logs['loss']:.4f} - val_loss: {val_loss:.4f}")
            for callback in callbacks:
                callback.on_epoch_end(self, logs)
            if self.stop_training:
                break
        for callback in callbacks:
            callback.on_train_end(self)
        return history


x_all, grams_all = load_parts(train=True)
x_test, grams_test = load_parts(train=False)
shuffled = np.random.permutation(len(x_all))
fit_rows, val_rows = shuffled[:750], shuffled[750:]

mu, sigma = grams_all[fit_rows].mean(), grams_all[fit_rows].std()
y_all = (grams_all - mu) / sigma
print(f"masses: {mu:.0f} g on average, standard deviation {sigma:.0f} g")

network = PartNet()
model = Model(network)
model.compile(optimizer=torch.optim.Adam(network.parameters(), lr=2e-3), loss=nn.MSELoss())
history = model.fit(
    x_all[fit_rows], y_all[fit_rows], batch_size=32, epochs=15,
    validation_data=(x_all[val_rows], y_all[val_rows]),
    callbacks=[ReduceLROnPlateau(factor=0.3, patience=2), EarlyStopping(patience=5)],
)

grams_hat = model.predict(x_test) * sigma + mu
error = grams_hat - grams_test
r2 = 1 - (error ** 2).sum() / ((grams_test - grams_test.mean()) ** 2).sum()
print(f"test: mean absolute error {np.abs(error).mean():.1f} g, R2 {r2:.3f}")
