"""Waves: an encoder learns to fill gaps in many unlabeled signals; then a head on few labels; then its last block too."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

torch.manual_seed(21)
torch.set_num_threads(1)


def block(a, b, kernel):
    return nn.Sequential(nn.Conv1d(a, b, kernel, stride=2, padding=kernel // 2, bias=False), nn.BatchNorm1d(b), nn.ReLU())


encoder = nn.Sequential(block(1, 32, 7), block(32, 64, 5), block(64, 64, 5))
decoder = nn.Sequential(
    nn.ConvTranspose1d(64, 48, 4, 2, 1), nn.ReLU(), nn.ConvTranspose1d(48, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose1d(32, 1, 4, 2, 1)
)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(128, 4)

    def forward(self, features):
        return self.linear(torch.cat([features.mean(2), features.amax(2)], 1))


head = Head()


def gaps(signals, length=10):
    """True where the signal is hidden, from a start of its own in each."""
    start = torch.randint(0, signals.shape[2] - length + 1, (len(signals), 1, 1))
    position = torch.arange(signals.shape[2])
    return (position >= start) & (position < start + length)


# Stage 1: fill the gaps. The loss looks at the hidden parts alone; those of validation are drawn once.
unlabeled, _ = waves(2400, seed=70)
quiet, _ = waves(300, seed=71)
quiet_gaps = gaps(quiet)
loader = DataLoader(TensorDataset(unlabeled), batch_size=64, shuffle=True)
optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
for epoch in range(12):
    encoder.train(), decoder.train()
    for (signals,) in loader:
        hidden = gaps(signals)
        output = decoder(encoder(signals.masked_fill(hidden, 0.0)))
        loss = F.mse_loss(output[hidden], signals[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval(), decoder.eval()
    with torch.no_grad():
        output = decoder(encoder(quiet.masked_fill(quiet_gaps, 0.0)))
        error = F.mse_loss(output[quiet_gaps], quiet[quiet_gaps]) / quiet[quiet_gaps].var()
    print(f"gaps, epoch {epoch}: {error:.3f} of the variance unexplained")

# Stages 2 and 3: few labels. The encoder stays in evaluation mode throughout, so that its
# statistics, measured on 2400 signals, aren't replaced by those of 200.
few = DataLoader(TensorDataset(*waves(200, seed=72)), batch_size=20, shuffle=True)
valid_signals, valid_labels = waves(400, seed=73)


def accuracy():
    encoder.eval(), head.eval()
    with torch.no_grad():
        return (head(encoder(valid_signals)).argmax(1) == valid_labels).float().mean().item()


def tune(name, groups, epochs):
    optimizer = torch.optim.Adam(groups)
    for epoch in range(epochs):
        encoder.eval(), head.train()
        total = 0.0
        for signals, labels in few:
            loss = F.cross_entropy(head(encoder(signals)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"{name}, epoch {epoch}: loss {total / len(few):.4f} accuracy {accuracy():.3f}")


encoder.requires_grad_(False)
tune("head", [{"params": head.parameters(), "lr": 5e-3}], epochs=20)
encoder[2].requires_grad_(True)
tune("last block", [{"params": head.parameters(), "lr": 1e-3}, {"params": encoder[2].parameters(), "lr": 5e-4}], epochs=25)
