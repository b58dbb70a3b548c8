"""FixMatch on colored shapes: few labels, pseudo labels of weak views for strong ones, an EMA for evaluation."""

import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes


def tensors(dataset):
    images = (torch.stack(dataset.images) - 0.5) / 0.2
    return images, torch.tensor(dataset.targets)


def weak(x):
    flip = torch.rand(len(x), 1, 1, 1) < 0.5
    return torch.where(flip, x.flip(3), x)


def strong(x):
    x = weak(x)
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    x = torch.roll(x, (dy, dx), (2, 3))
    x = x * torch.empty(len(x), 1, 1, 1).uniform_(0.8, 1.2) + 0.2 * torch.randn_like(x)
    top, left = torch.randint(0, 13, (2,)).tolist()
    x = x.clone()
    x[:, :, top : top + 4, left : left + 4] = 0
    return x


class Net(nn.Module):
    def __init__(self, width=24, classes=6):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(4, width), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.GroupNorm(4, 2 * width), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.GroupNorm(4, 2 * width), nn.LeakyReLU(0.1),
        )
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.fc(self.body(x).amax((2, 3)))


class ModelEMA:
    def __init__(self, model, decay):
        self.ema = copy.deepcopy(model).eval()
        self.ema.requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, other in zip(self.ema.parameters(), model.parameters()):
            mine.lerp_(other.detach(), 1 - decay)


def forever(loader):
    while True:
        yield from loader


@torch.no_grad()
def test(model, images, targets):
    model.eval()
    return (model(images).argmax(1) == targets).float().mean().item()


def train_one_epoch(args, model, ema, optimizer, labeled, unlabeled):
    model.train()
    sums = torch.zeros(3)
    for _ in range(args.eval_step):
        inputs_x, targets_x = next(labeled)
        (inputs_u,) = next(unlabeled)
        inputs_x, inputs_u_w, inputs_u_s = weak(inputs_x), weak(inputs_u), strong(inputs_u)

        logits_x, logits_u_s = model(torch.cat((inputs_x, inputs_u_s))).split([len(inputs_x), len(inputs_u)])
        with torch.no_grad():
            probs = model(inputs_u_w).softmax(dim=-1)
        max_probs, targets_u = probs.max(dim=-1)
        mask = max_probs.ge(args.threshold).float()

        lx = F.cross_entropy(logits_x, targets_x)
        lu = (F.cross_entropy(logits_u_s, targets_u, reduction="none") * mask).mean()
        loss = lx + args.lambda_u * lu

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
        sums += torch.stack((lx.detach(), lu.detach(), mask.mean()))
    return (sums / args.eval_step).tolist()


def main():
    parser = argparse.ArgumentParser(description="FixMatch")
    parser.add_argument("--num-labeled", type=int, default=180)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--mu", type=int, default=2, help="unlabeled images for each labeled one")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--eval-step", type=int, default=25)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--ema-decay", type=float, default=0.98)
    args = parser.parse_args()
    torch.manual_seed(5)

    images, targets = tensors(Shapes(train=True))
    test_images, test_targets = tensors(Shapes(train=False))
    order = torch.randperm(len(images))
    idx_x, idx_u = order[: args.num_labeled], order[args.num_labeled :]
    labeled = forever(DataLoader(TensorDataset(images[idx_x], targets[idx_x]), args.batch_size, shuffle=True, drop_last=True))
    unlabeled = forever(DataLoader(TensorDataset(images[idx_u]), args.mu * args.batch_size, shuffle=True, drop_last=True))

    model = Net()
    ema = ModelEMA(model, args.ema_decay)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    for epoch in range(args.epochs):
        lx, lu, used = train_one_epoch(args, model, ema, optimizer, labeled, unlabeled)
        accuracy = test(ema.ema, test_images, test_targets)
        print(f"epoch {epoch + 1}: loss_x {lx:.4f} loss_u {lu:.4f} mask {used:.2f} test acc (ema) {accuracy:.3f}")


if __name__ == "__main__":
    main()
