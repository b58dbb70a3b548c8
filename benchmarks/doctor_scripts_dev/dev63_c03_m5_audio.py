"""Classification of raw waveforms with an M5 network, after the torchaudio tutorial; batches are drawn by hand."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim

from toydata import waves

LABELS = ["slow", "fast", "square", "chirp"]


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=16):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=16, stride=2, padding=7)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm1d(n_channel)
        self.pool2 = nn.MaxPool1d(2)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3, padding=1)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.pool3 = nn.MaxPool1d(2)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))
        x = self.pool3(F.relu(self.bn3(self.conv3(x))))
        x = F.avg_pool1d(x, x.shape[-1]).permute(0, 2, 1)
        x = self.fc1(x)
        return F.log_softmax(x, dim=2)


def augment(signals):
    """Random loudness and polarity: neither changes what is heard."""
    gain = 0.8 + 0.4 * torch.rand(len(signals), 1, 1)
    polarity = torch.randint(0, 2, (len(signals), 1, 1)).float() * 2 - 1
    return signals * gain * polarity


def batches(signals, labels, batch_size, shuffle):
    order = torch.randperm(len(signals)) if shuffle else torch.arange(len(signals))
    for chunk in order.split(batch_size):
        yield signals[chunk], labels[chunk]


def count_parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def number_of_correct(pred, target):
    return pred.squeeze(1).eq(target).sum().item()


def get_likely_index(tensor):
    return tensor.argmax(dim=-1)


def train(model, optimizer, data, epoch, args):
    model.train()
    total, seen = 0.0, 0
    for index, (signal, target) in enumerate(batches(*data, args.batch_size, shuffle=True)):
        output = model(augment(signal))
        loss = F.nll_loss(output.squeeze(1), target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        total += loss.item() * len(signal)
        seen += len(signal)
        if index % args.log_interval == 0:
            print(f"Train Epoch: {epoch} [{seen}/{len(data[0])}]\tLoss: {loss.item():.6f}")
    return total / seen


@torch.no_grad()
def test(model, data, epoch, args):
    model.eval()
    correct = 0
    per_class = torch.zeros(len(LABELS), 2)
    for signal, target in batches(*data, args.batch_size, shuffle=False):
        pred = get_likely_index(model(signal))
        correct += number_of_correct(pred, target)
        for k in range(len(LABELS)):
            of_class = target == k
            per_class[k, 0] += (pred.squeeze(1)[of_class] == k).sum()
            per_class[k, 1] += of_class.sum()
    accuracy = correct / len(data[0])
    recalls = (per_class[:, 0] / per_class[:, 1].clamp(min=1)).tolist()
    detail = ", ".join(f"{name} {recall:.2f}" for name, recall in zip(LABELS, recalls))
    print(f"Test Epoch: {epoch}\tAccuracy: {correct}/{len(data[0])} ({100 * accuracy:.0f}%)  {detail}")
    return accuracy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--log_interval", type=int, default=10)
    args = parser.parse_args()

    torch.manual_seed(7)
    train_signals, train_labels = waves(900, length=128, seed=0)
    test_signals, test_labels = waves(300, length=128, seed=1)
    mean, std = train_signals.mean(), train_signals.std()
    train_set = ((train_signals - mean) / std, train_labels)
    test_set = ((test_signals - mean) / std, test_labels)

    model = M5(n_input=1, n_output=len(LABELS))
    print(f"Number of parameters: {count_parameters(model)}")
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.3)

    history = []
    for epoch in range(1, args.epochs + 1):
        loss = train(model, optimizer, train_set, epoch, args)
        accuracy = test(model, test_set, epoch, args)
        history.append((loss, accuracy))
        scheduler.step()
    print("loss by epoch: ", " ".join(f"{loss:.3f}" for loss, _ in history))


if __name__ == "__main__":
    main()
