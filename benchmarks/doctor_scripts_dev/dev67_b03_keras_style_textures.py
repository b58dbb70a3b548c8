"""A small Keras-like API (compile / fit / evaluate / callbacks) on top of PyTorch."""
import copy

import numpy as np
import torch
from torch import nn

CLASSES = ["horizontal", "vertical", "checker", "dots", "rings"]
SIZE, INITIAL_LR = 32, 0.05


def make_textures(n_per_class, seed):
    """Noisy RGB textures as uint8 arrays of shape (N, SIZE, SIZE, 3) with integer labels."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    x, y = [], []
    for label, name in enumerate(CLASSES):
        for _ in range(n_per_class):
            f = 2 * np.pi / rng.uniform(6, 11)
            cx, cy = rng.uniform(4, SIZE - 4, size=2)
            wave_x, wave_y = np.sin(f * (xx - cx)), np.sin(f * (yy - cy))
            t = {
                "horizontal": wave_y,
                "vertical": wave_x,
                "checker": np.sign(wave_x * wave_y),
                "dots": 1.6 * np.maximum(wave_x + wave_y - 0.6, 0) - 0.5,
                "rings": np.sin(f * np.hypot(xx - cx, yy - cy)),
            }[name]
            color = rng.uniform(-40, 40, size=3)
            img = rng.uniform(70, 185, size=3) + t[:, :, None] * color + rng.normal(0, 34, (SIZE, SIZE, 3))
            x.append(np.clip(img, 0, 255).astype(np.uint8))
            y.append(label)
    return np.stack(x), np.array(y)


class ImageDataGenerator:
    """Random flips, shifts and brightness changes on uint8 batches (N, H, W, C)."""

    def __init__(self, horizontal_flip=False, shift=0, brightness=0, seed=0):
        self.horizontal_flip, self.shift, self.brightness = horizontal_flip, shift, brightness
        self.rng = np.random.default_rng(seed)

    def random_transform(self, x):
        x = x.copy()
        if self.horizontal_flip:
            flip = self.rng.random(len(x)) < 0.5
            x[flip] = x[flip, :, ::-1]
        if self.shift:
            x = np.roll(x, self.rng.integers(-self.shift, self.shift + 1, size=2), axis=(1, 2))
        if self.brightness:
            delta = self.rng.integers(-self.brightness, self.brightness + 1, size=(len(x), 1, 1, 1))
            x = np.clip(x.astype(np.int16) + delta, 0, 255).astype(np.uint8)
        return x


class Callback:
    def on_train_begin(self): pass
    def on_epoch_begin(self, epoch): pass
    def on_epoch_end(self, epoch, logs): pass
    def on_train_end(self): pass


class History(Callback):
    def on_train_begin(self):
        self.history = {}

    def on_epoch_end(self, epoch, logs):
        for k, v in logs.items():
            self.history.setdefault(k, []).append(v)


class LearningRateScheduler(Callback):
    def __init__(self, schedule):
        self.schedule = schedule

    def on_epoch_begin(self, epoch):
        for group in self.model.optimizer.param_groups:
            group["lr"] = self.schedule(epoch, group["lr"])


class EarlyStopping(Callback):
    def __init__(self, monitor="val_loss", patience=3):
        self.monitor, self.patience = monitor, patience

    def on_train_begin(self):
        self.best, self.best_epoch, self.best_weights = float("inf"), 0, None

    def on_epoch_end(self, epoch, logs):
        if logs[self.monitor] < self.best:
            self.best, self.best_epoch = logs[self.monitor], epoch
            self.best_weights = copy.deepcopy(self.model.net.state_dict())
        elif epoch - self.best_epoch >= self.patience:
            self.model.stop_training = True

    def on_train_end(self):
        print(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}")
        self.model.net.load_state_dict(self.best_weights)


class Model:
    def __init__(self, net, mean, std):
        self.net = net
        self.mean, self.std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (mean, std))

    def compile(self, optimizer, loss, gradient_accumulation_steps=1):
        self.optimizer, self.loss, self.accum = optimizer, loss, gradient_accumulation_steps

    def to_tensor(self, x):
        x = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255.0
        return (x - self.mean) / self.std

    def fit(self, x, y, batch_size=32, epochs=1, validation_split=0.2, datagen=None, callbacks=()):
        n_train = int(len(x) * (1.0 - validation_split))
        validation_data = (x[n_train:], y[n_train:])
        x, y = x[:n_train], y[:n_train]
        history = History()
        for cb in (callbacks := [history, *callbacks]):
            cb.model = self
            cb.on_train_begin()
        self.stop_training, n_batches = False, int(np.ceil(n_train / batch_size))
        for epoch in range(epochs):
            for cb in callbacks:
                cb.on_epoch_begin(epoch)
            self.net.train()
            order = np.random.permutation(n_train)
            total_loss, correct = 0.0, 0
            self.optimizer.zero_grad()
            for step in range(n_batches):
                idx = order[step * batch_size:(step + 1) * batch_size]
                xb = x[idx] if datagen is None else datagen.random_transform(x[idx])
                xb, yb = self.to_tensor(xb), torch.from_numpy(y[idx])
                outputs = self.net(xb)
                loss = self.loss(outputs, yb)
                (loss / self.accum).backward()
                if (step + 1) % self.accum == 0 or step + 1 == n_batches:
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                total_loss += loss.item() * len(idx)
                correct += (outputs.argmax(1) == yb).sum().item()
            logs = {"loss": total_loss / n_train, "accuracy": correct / n_train}
            logs["val_loss"], logs["val_accuracy"] = self.evaluate(*validation_data)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
            for cb in callbacks:
                cb.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        for cb in callbacks:
            cb.on_train_end()
        return history

    @torch.no_grad()
    def predict(self, x, batch_size=128):
        self.net.eval()
        return torch.cat([self.net(self.to_tensor(x[i:i + batch_size])) for i in range(0, len(x), batch_size)])

    @torch.no_grad()
    def evaluate(self, x, y, batch_size=128):
        outputs, targets = self.predict(x, batch_size), torch.from_numpy(y)
        return self.loss(outputs, targets).item(), (outputs.argmax(1) == targets).float().mean().item()


def conv_block(c_in, c_out):
    conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, momentum=0.1), nn.ReLU(), nn.MaxPool2d(2))


def build_net():
    features = [conv_block(3, 16), conv_block(16, 32), conv_block(32, 64)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.25), nn.Linear(64, len(CLASSES))]
    return nn.Sequential(*features, *head)


def main():
    np.random.seed(0)
    torch.manual_seed(0)
    x, y = make_textures(240, seed=1)
    x_test, y_test = make_textures(120, seed=2)
    order = np.random.permutation(len(x))
    x, y = x[order], y[order]
    x_train = x[: int(len(x) * 0.8)] / 255.0
    mean, std = x_train.mean(axis=(0, 1, 2)), x_train.std(axis=(0, 1, 2))
    net = build_net()
    model = Model(net, mean, std)
    optimizer = torch.optim.SGD(net.parameters(), lr=INITIAL_LR, momentum=0.9, weight_decay=1e-4)
    model.compile(optimizer, loss=nn.CrossEntropyLoss(), gradient_accumulation_steps=4)
    history = model.fit(
        x, y, batch_size=16, epochs=15, validation_split=0.2,
        datagen=ImageDataGenerator(horizontal_flip=True, shift=4, brightness=40),
        callbacks=[
            LearningRateScheduler(lambda epoch, lr: INITIAL_LR * 0.85 ** epoch),
            EarlyStopping(monitor="val_loss", patience=5),
        ],
    )
    print(f"best val_accuracy: {max(history.history['val_accuracy']):.4f}")
    test_loss, test_acc = model.evaluate(x_test, y_test)
    print(f"test loss: {test_loss:.4f} - test accuracy: {test_acc:.4f}")


if __name__ == "__main__":
    main()
