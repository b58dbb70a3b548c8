"""Age from drawn faces, with a small Keras-like Model around PyTorch: compile, fit, evaluate, predict."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


# ---------------------------------------------------------------- data
def draw_face(age, rng, size=32):
    v, u = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    du, dv = rng.uniform(-0.1, 0.1, 2)
    u, v = u + du, v + dv
    growth = min(age, 20) / 20
    wide, high = 0.72 - 0.1 * growth, 0.72 + 0.14 * growth
    skin = rng.uniform(0.55, 0.75)
    image = np.full((size, size), rng.uniform(0.3, 0.45))
    head = (u / wide) ** 2 + (v / high) ** 2 < 1
    image[head] = skin
    gray = np.clip((age - 30) / 55, 0, 1)
    hairline = -0.3 - 0.3 * gray * rng.uniform(0.8, 1.1)
    image[head & (v < hairline)] = 0.1 + 0.8 * gray + rng.uniform(-0.05, 0.05)
    eye = 0.19 - 0.09 * growth
    for side in (-1, 1):
        image[(u - side * 0.28) ** 2 + (v + 0.05) ** 2 < eye**2] = 0.05
        image[(np.abs(u - side * (0.25 + 0.1 * v)) < 0.035) & (v > 0.2) & (v < 0.45)] -= 0.3 * np.clip((age - 25) / 60, 0, 1)
    image[(np.abs(u) < 0.22) & (np.abs(v - 0.5) < 0.05)] = 0.2
    for line in (-0.25, -0.16):
        image[(np.abs(v - line) < 0.03) & (np.abs(u) < 0.35) & head] -= 0.25 * np.clip((age - 35) / 50, 0, 1)
    image = image + rng.normal(0, 0.04, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def load_data(count, seed):
    rng = np.random.default_rng(seed)
    ages = rng.uniform(1, 90, count).round()
    images = np.stack([draw_face(age, rng) for age in ages])[:, None]
    return torch.from_numpy(images), torch.tensor(ages, dtype=torch.float32)


# ---------------------------------------------------------------- framework
class Callback:
    def on_epoch_end(self, model, epoch, logs):
        pass


class ReduceLROnPlateau(Callback):
    def __init__(self, monitor="val_loss", factor=0.3, patience=2):
        self.monitor, self.factor, self.patience = monitor, factor, patience
        self.best, self.wait = float("inf"), 0

    def on_epoch_end(self, model, epoch, logs):
        if logs[self.monitor] < self.best - 1e-4:
            self.best, self.wait = logs[self.monitor], 0
            return
        self.wait += 1
        if self.wait > self.patience:
            for group in model.optimizer.param_groups:
                group["lr"] *= self.factor
            self.wait = 0


class History(Callback):
    def __init__(self):
        self.history = {}

    def on_epoch_end(self, model, epoch, logs):
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class Model:
    def __init__(self, network):
        self.network = network

    def compile(self, optimizer, loss, metrics):
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics

    def train_on_batch(self, x, y):
        self.network.train()
        self.optimizer.zero_grad()
        outputs = self.network(x)
        loss = self.loss(outputs, y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self, x, y, batch_size=100):
        self.network.eval()
        sums = {"loss": 0.0, **{name: 0.0 for name in self.metrics}}
        for inputs, targets in DataLoader(TensorDataset(x, y), batch_size):
            outputs = self.network(inputs)
            sums["loss"] += self.loss(outputs, targets).item() * len(inputs)
            for name, metric in self.metrics.items():
                sums[name] += metric(outputs, targets).item() * len(inputs)
        return {name: value / len(x) for name, value in sums.items()}

    @torch.no_grad()
    def predict(self, x):
        self.network.eval()
        return self.network(x)

    def fit(self, x, y, batch_size=32, epochs=1, validation_data=None, callbacks=()):
        history = History()
        loader = DataLoader(TensorDataset(x, y), batch_size, shuffle=True)
        for epoch in range(epochs):
            losses = [self.train_on_batch(inputs, targets) for inputs, targets in loader]
            logs = {"loss": sum(losses) / len(losses)}
            if validation_data is not None:
                logs.update({f"val_{name}": value for name, value in self.evaluate(*validation_data).items()})
            for callback in (*callbacks, history):
                callback.on_epoch_end(self, epoch, logs)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{name}: {value:.4f}" for name, value in logs.items()))
        return history


# ---------------------------------------------------------------- network
class AgeNet(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 1
        for width in (16, 32, 64):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(64 * 4 * 4, 64),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(64, 1),
        )

    def forward(self, x):
        return self.head(self.features(x)).squeeze(1)


# ---------------------------------------------------------------- run
torch.manual_seed(0)
torch.set_num_threads(1)
x_train, age_train = load_data(1600, seed=0)
x_val, age_val = load_data(300, seed=1)
pixel_mean, pixel_std = x_train.float().mean(), x_train.float().std()
x_train = (x_train.float() - pixel_mean) / pixel_std
x_val = (x_val.float() - pixel_mean) / pixel_std
age_mean, age_std = age_train.mean(), age_train.std()
y_train = (age_train - age_mean) / age_std
y_val = (age_val - age_mean) / age_std


def mae_years(outputs, targets):
    return ((outputs - targets) * age_std).abs().mean()


model = Model(AgeNet())
model.compile(
    optimizer=torch.optim.SGD(model.network.parameters(), lr=0.01, momentum=0.9),
    loss=nn.MSELoss(),
    metrics={"mae_years": mae_years},
)
history = model.fit(x_train, y_train, epochs=14, validation_data=(x_val, y_val), callbacks=[ReduceLROnPlateau()])
guesses = model.predict(x_val[:8]) * age_std + age_mean
print("ages   ", age_val[:8].tolist())
print("guesses", guesses.flatten().round().tolist())
print(f"last validation MAE: {history.history['val_mae_years'][-1]:.2f} years")
