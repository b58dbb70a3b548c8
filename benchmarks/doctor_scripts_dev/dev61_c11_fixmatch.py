"""FixMatch on windows of accelerometer data: few labels, many windows without (after kekmodel/FixMatch-pytorch)."""
import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

ACTIVITIES = ["walk", "run", "stairs", "cycle", "stand"]
FREQUENCY = torch.tensor([2.0, 4.0, 2.0, 6.0, 0.0])
GAIN = torch.tensor([[1.0, 0.3, 0.3], [1.2, 0.8, 0.3], [0.4, 0.4, 1.2], [0.3, 1.0, 0.8], [0.0, 0.0, 0.0]])


def make_windows(count, seed, length=48):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(ACTIVITIES), (count,), generator=generator)
    time = torch.linspace(0, 1, length)
    phase = 6.2832 * torch.rand(count, 1, 1, generator=generator)
    speed = FREQUENCY[labels] * (0.9 + 0.2 * torch.rand(count, generator=generator))
    wave = torch.sin(6.2832 * speed[:, None, None] * time + phase)
    strength = 0.7 + 0.6 * torch.rand(count, 1, 1, generator=generator)
    windows = 1.5 * strength * GAIN[labels][:, :, None] * wave
    windows = windows + 0.5 * torch.randn(count, 3, length, generator=generator)
    return windows, labels


def weak(x):
    return x + 0.05 * torch.randn_like(x)


def strong(x):
    """Scales each axis, adds noise and blanks a stretch of six steps."""
    x = x * (1 + 0.15 * torch.randn(len(x), 3, 1)) + 0.2 * torch.randn_like(x)
    start = torch.randint(0, x.shape[-1] - 6, (len(x), 1, 1))
    position = torch.arange(x.shape[-1])
    return x.masked_fill((position >= start) & (position < start + 6), 0.0)


class Net(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3, width, 7, padding=3), nn.GroupNorm(4, width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, width, 5, padding=2), nn.GroupNorm(4, width), nn.ReLU(), nn.AdaptiveAvgPool1d(4),
        )
        self.head = nn.Linear(4 * width, len(ACTIVITIES))

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


class ModelEMA:
    def __init__(self, model, decay):
        self.ema = copy.deepcopy(model).requires_grad_(False)
        self.ema.eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for average, value in zip(self.ema.state_dict().values(), model.state_dict().values()):
            average.lerp_(value, 1 - self.decay)


def endless(loader):
    while True:
        yield from loader


@torch.no_grad()
def test(model, loader):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--eval-step", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=25)
    parser.add_argument("--mu", type=int, default=3)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=0.03)
    args = parser.parse_args()
    torch.manual_seed(5)

    x, y = make_windows(1200, seed=0)
    labeled_set, unlabeled_set = TensorDataset(x[:200], y[:200]), TensorDataset(x[200:])
    test_set = TensorDataset(*make_windows(300, seed=1))
    labeled = endless(DataLoader(labeled_set, batch_size=args.batch_size, shuffle=True, drop_last=True))
    unlabeled = endless(DataLoader(unlabeled_set, batch_size=args.batch_size * args.mu, shuffle=True, drop_last=True))
    test_loader = DataLoader(test_set, batch_size=100)

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * args.eval_step, eta_min=1e-3)
    ema = ModelEMA(model, decay=0.95)

    for epoch in range(1, args.epochs + 1):
        model.train()
        sums = torch.zeros(3)
        for _ in range(args.eval_step):
            inputs_x, targets_x = next(labeled)
            (inputs_u,) = next(unlabeled)
            n, m = len(inputs_x), len(inputs_u)
            logits = model(torch.cat([weak(inputs_x), weak(inputs_u), strong(inputs_u)]))
            logits_x, logits_w, logits_s = logits.split([n, m, m])
            loss_x = F.cross_entropy(logits_x, targets_x)

            confidence, targets_u = logits_w.detach().softmax(dim=-1).max(dim=-1)
            mask = confidence.ge(args.threshold)
            loss_u = (F.cross_entropy(logits_s, targets_u, reduction="none") * mask.float()).mean()

            loss = loss_x + args.lambda_u * loss_u
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(model)
            sums += torch.stack([loss_x.detach(), loss_u.detach(), mask.float().mean()])
        means = (sums / args.eval_step).tolist()
        print(
            f"epoch {epoch}: loss_x {means[0]:.4f} loss_u {means[1]:.4f} mask {means[2]:.2f} "
            f"test {test(model, test_loader):.4f} ema {test(ema.ema, test_loader):.4f}"
        )


if __name__ == "__main__":
    main()
