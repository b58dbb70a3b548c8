"""Audio: raw waveforms to four kinds of sounds, with an M5 network as in torchaudio's speech command tutorial."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

KINDS = ["low", "high", "square", "chirp"]


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=24):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=9, padding=4)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.conv2 = nn.Conv1d(n_channel, n_channel, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(n_channel)
        self.conv3 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=5, padding=2)
        self.bn3 = nn.BatchNorm1d(2 * n_channel)
        self.pool = nn.MaxPool1d(2)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        x = F.relu(self.bn3(self.conv3(x)))
        x = x.mean(dim=-1)
        return F.log_softmax(self.fc1(x), dim=-1)


def random_gain(signal):
    """Loudness differs from one microphone to the next."""
    return signal * (0.8 + 0.4 * torch.rand(signal.size(0), 1, 1))


def pad_sequence(batch):
    batch = [item.t() for item in batch]
    batch = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=0.0)
    return batch.permute(0, 2, 1)


def collate_fn(batch):
    tensors, targets = zip(*batch)
    return pad_sequence(tensors), torch.stack(targets)


def count_parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def get_likely_index(tensor):
    return tensor.argmax(dim=-1)


def number_of_correct(pred, target):
    return pred.eq(target).sum().item()


def train(model, loader, optimizer, scheduler, epoch, log_interval):
    model.train()
    losses = []
    for batch_idx, (data, target) in enumerate(loader):
        output = model(random_gain(data))
        loss = F.nll_loss(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if batch_idx % log_interval == 0:
            seen = batch_idx * loader.batch_size
            print(f"Train Epoch: {epoch} [{seen}/{len(loader.dataset)}]\tValue: {loss.item():.6f}")
    return losses


@torch.no_grad()
def test(model, loader, epoch):
    model.eval()
    correct = 0
    confusion = torch.zeros(len(KINDS), len(KINDS), dtype=torch.long)
    for data, target in loader:
        pred = get_likely_index(model(data))
        correct += number_of_correct(pred, target)
        for t, p in zip(target.tolist(), pred.tolist()):
            confusion[t, p] += 1
    print(f"Test Epoch: {epoch}\tAccuracy: {correct}/{len(loader.dataset)} ({100.0 * correct / len(loader.dataset):.0f}%)")
    return confusion


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_epoch", type=int, default=6)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--log_interval", type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(0)

    train_set = TensorDataset(*waves(count=800, seed=0))
    test_set = TensorDataset(*waves(count=240, seed=1))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, collate_fn=collate_fn)
    test_loader = DataLoader(test_set, batch_size=args.batch_size, shuffle=False, collate_fn=collate_fn)

    model = M5(n_output=len(KINDS))
    print(f"Number of parameters: {count_parameters(model)}")
    optimizer = optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, steps_per_epoch=len(train_loader), epochs=args.n_epoch
    )

    history, confusion = [], None
    for epoch in range(1, args.n_epoch + 1):
        history += train(model, train_loader, optimizer, scheduler, epoch, args.log_interval)
        confusion = test(model, test_loader, epoch)
    recall = confusion.diag().float() / confusion.sum(1).clamp(min=1)
    print("  ".join(f"{kind}: {value:.2f}" for kind, value in zip(KINDS, recall.tolist())))
    print(f"steps: {len(history)}")


if __name__ == "__main__":
    main()
