"""Homework 4: flat minima. Each step looks for the worst place near the weights, and goes down from there."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import toydata


class WaveNet1d(nn.Module):
    def __init__(self, n_classes=4):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 16, 7, padding=3)
        self.bn1 = nn.BatchNorm1d(16)
        self.conv2 = nn.Conv1d(16, 32, 7, padding=3)
        self.bn2 = nn.BatchNorm1d(32)
        self.conv3 = nn.Conv1d(32, 32, 7, padding=3)
        self.bn3 = nn.BatchNorm1d(32)
        self.pool = nn.MaxPool1d(2)
        self.fc = nn.Linear(32, n_classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.fc(x.mean(dim=2))


class TwoStep:
    """Wraps an optimizer: `climb` moves up by `rho`, `descend` takes that back and steps with the gradient found."""

    def __init__(self, optimizer, rho=0.05):
        self.optimizer = optimizer
        self.rho = rho
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.moves = []

    @torch.no_grad()
    def climb(self):
        norm = torch.stack([p.grad.norm() for p in self.params]).norm()
        self.moves = [p.grad * (self.rho / (norm + 1e-12)) for p in self.params]
        for p, move in zip(self.params, self.moves):
            p.add_(move)
        self.optimizer.zero_grad()

    @torch.no_grad()
    def descend(self):
        for p, move in zip(self.params, self.moves):
            p.sub_(move)
        self.optimizer.step()
        self.optimizer.zero_grad()


def train_epoch(model, loader, two_step, criterion):
    model.train()
    loss_sum, correct, count = 0.0, 0, 0
    for x, y in loader:
        logits = model(x)
        loss = criterion(logits, y)
        loss.backward()
        two_step.climb()
        criterion(model(x), y).backward()
        two_step.descend()
        loss_sum += loss.detach() * len(y)
        correct += (logits.argmax(dim=1) == y).sum()
        count += len(y)
    return float(loss_sum) / count, float(correct) / count


def evaluate(model, loader, criterion):
    model.eval()
    loss_sum, correct, count = 0.0, 0, 0
    with torch.no_grad():
        for x, y in loader:
            logits = model(x)
            loss_sum += criterion(logits, y).item() * len(y)
            correct += (logits.argmax(dim=1) == y).sum().item()
            count += len(y)
    return loss_sum / count, correct / count


def main():
    torch.manual_seed(4)
    torch.set_num_threads(1)
    x_train, y_train = toydata.waves(600, seed=0)
    x_val, y_val = toydata.waves(200, seed=1)
    x_test, y_test = toydata.waves(300, seed=2)
    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=40, shuffle=True)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=100)
    test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=100)

    epochs = 18
    model = WaveNet1d()
    criterion = nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    two_step = TwoStep(sgd, rho=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=epochs)

    best_loss, best_weights = float("inf"), None
    for epoch in range(epochs):
        train_loss, train_acc = train_epoch(model, train_loader, two_step, criterion)
        val_loss, val_acc = evaluate(model, val_loader, criterion)
        schedule.step()
        print(f"{epoch:2d}  train {train_loss:.4f} / {train_acc:.3f}   val {val_loss:.4f} / {val_acc:.3f}")
        if val_loss < best_loss:
            best_loss = val_loss
            best_weights = {name: value.clone() for name, value in model.state_dict().items()}

    model.load_state_dict(best_weights)
    test_loss, test_acc = evaluate(model, test_loader, criterion)
    print(f"test loss {test_loss:.4f}, accuracy {test_acc:.3f}")


if __name__ == "__main__":
    main()
