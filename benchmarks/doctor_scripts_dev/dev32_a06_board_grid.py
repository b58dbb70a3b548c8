"""Find the parts on a circuit board: a grid of 4 x 4 cells, each says whether a part is there, where and which.
The training code looks like Keras: compile, fit, evaluate."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

GRID, CELL = 4, 8
PARTS = ("resistor", "diode", "chip", "capacitor")


def make_boards(count, seed):
    rng = np.random.default_rng(seed)
    size = GRID * CELL
    y, x = np.mgrid[:size, :size]
    boards = np.zeros((count, 3, size, size), np.float32)
    cells = np.zeros((count, GRID, GRID, 4), np.float32)  # there, offset y, offset x, part
    for board, cell in zip(boards, cells):
        board[:] = (np.array([0.1, 0.45, 0.2]) + rng.uniform(-0.06, 0.06, 3))[:, None, None]
        line = rng.integers(0, size)
        board[:, line] += 0.15
        board[:, :, rng.integers(0, size)] += 0.15
        for row in range(GRID):
            for column in range(GRID):
                if rng.random() > 0.4:
                    continue
                part = rng.integers(0, len(PARTS))
                offset = rng.uniform(0.3, 0.7, 2)
                dy, dx = y - (row + offset[0]) * CELL + 0.5, x - (column + offset[1]) * CELL + 0.5
                if part == 0:
                    shape = (abs(dy) < 1.2) & (abs(dx) < 3.2)
                elif part == 1:
                    shape = (abs(dy) < 3.2) & (abs(dx) < 1.2)
                elif part == 2:
                    shape = (abs(dy) < 2.6) & (abs(dx) < 2.6)
                else:
                    ring = dy**2 + dx**2
                    shape = (ring < 10) & (ring > 1.5)
                color = rng.uniform(0.6, 0.95, 3) if rng.random() < 0.5 else rng.uniform(0.0, 0.15, 3)
                board[:, shape] = color[:, None]
                cell[row, column] = 1, *offset, part
    boards += rng.normal(0, 0.05, boards.shape).astype(np.float32)
    return torch.from_numpy(boards), torch.from_numpy(cells)


class GridNet(nn.Module):
    def __init__(self, widths=(16, 32, 64)):
        super().__init__()
        self.blocks = nn.ModuleList()
        inputs = 3
        for width in widths:
            self.blocks.append(nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)))
            inputs = width
        self.neck = nn.Conv2d(inputs, 64, 1)
        self.head = nn.Conv2d(64, 3 + len(PARTS), 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        x = self.head(F.relu(self.neck(x)))
        return x.permute(0, 2, 3, 1)


def grid_loss(outputs, cells):
    there = cells[..., 0] > 0.5
    object_loss = F.binary_cross_entropy_with_logits(outputs[..., 0], cells[..., 0])
    place_loss = F.smooth_l1_loss(outputs[..., 1:3][there], cells[..., 1:3][there])
    part_loss = F.cross_entropy(outputs[..., 3:][there], cells[..., 3][there].long())
    return object_loss + 5 * place_loss + part_loss


def detection_metrics(outputs, cells):
    there, found = cells[..., 0] > 0.5, outputs[..., 0] > 0
    parts = outputs[..., 3:].argmax(-1)
    named = found & there & (parts == cells[..., 3].long())
    error = (outputs[..., 1:3] - cells[..., 1:3])[there].abs().mean() * CELL
    return {
        "f1": (2 * (found & there).sum() / (found.sum() + there.sum()).clamp(min=1)).item(),
        "named": (named.sum() / there.sum()).item(),
        "pixels_off": error.item(),
    }


class Model:
    """What Keras calls a model: a network with all that it takes to train it."""

    def __init__(self, network):
        self.network = network

    def compile(self, optimizer, loss, metrics):
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics

    def train_on_batch(self, x, y):
        self.network.train()
        loss = self.loss(self.network(x), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def predict(self, x, batch_size=100):
        self.network.eval()
        return torch.cat([self.network(part) for part in x.split(batch_size)])

    def evaluate(self, x, y):
        return self.metrics(self.predict(x), y)

    def fit(self, x, y, epochs, batch_size, validation_data):
        history = []
        for epoch in range(epochs):
            order = torch.randperm(len(x))
            losses = [self.train_on_batch(x[rows], y[rows]) for rows in order.split(batch_size)]
            logs = {"loss": float(np.mean(losses)), **self.evaluate(*validation_data)}
            history.append(logs)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{name}: {value:.4f}" for name, value in logs.items()))
        return history


torch.manual_seed(5)
torch.set_num_threads(1)
x_train, y_train = make_boards(1800, seed=0)
x_valid, y_valid = make_boards(300, seed=1)
mean, std = x_train.mean((0, 2, 3), keepdim=True), x_train.std((0, 2, 3), keepdim=True)
x_train, x_valid = (x_train - mean) / std, (x_valid - mean) / std

network = GridNet()
model = Model(network)
model.compile(torch.optim.Adam(network.parameters(), lr=2e-3), grid_loss, detection_metrics)
history = model.fit(x_train, y_train, epochs=15, batch_size=32, validation_data=(x_valid, y_valid))
print("done, parts found and named:", round(history[-1]["named"], 3))
