# Binary weights and activations with a straight-through estimator (Courbariaux et al. 2016; scales as in XNOR-Net)
from __future__ import print_function

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.autograd import Function
from torch.utils.data import DataLoader

from toydata import Digits


class BinarizeActivation(Function):
    """sign(x) forward; backward lets the gradient pass where |x| <= 1 (hard tanh)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * (x.abs() <= 1).to(grad_output.dtype)


class BinarizeWeight(Function):
    """sign(w) times the mean of |w| of the filter; the gradient passes straight through to the real weights."""

    @staticmethod
    def forward(ctx, w):
        scale = w.abs().mean(dim=(1, 2, 3), keepdim=True)
        return torch.where(w >= 0, 1.0, -1.0) * scale

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output


class BinConv2d(nn.Module):
    def __init__(self, cin, cout, kernel_size=3, padding=1):
        super(BinConv2d, self).__init__()
        self.bn = nn.BatchNorm2d(cin)
        self.conv = nn.Conv2d(cin, cout, kernel_size, padding=padding, bias=False)
        self.act = nn.PReLU(cout)
        self.padding = padding

    def forward(self, x):
        x = BinarizeActivation.apply(self.bn(x))
        x = F.conv2d(x, BinarizeWeight.apply(self.conv.weight), padding=self.padding)
        return self.act(x)


class BinaryNet(nn.Module):
    def __init__(self):
        super(BinaryNet, self).__init__()
        # first and last layer keep real weights, as is usual
        self.first = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.PReLU(24), nn.MaxPool2d(2))
        self.conv2 = BinConv2d(24, 48)
        self.conv3 = BinConv2d(48, 48)
        self.pool = nn.MaxPool2d(2)
        self.bn = nn.BatchNorm2d(48)
        self.last = nn.Linear(48 * 16, 10)

    def forward(self, x):
        x = self.first(x)
        x = self.conv2(x)
        x = self.pool(self.conv3(x) + x)
        return self.last(self.bn(x).flatten(1))

    @torch.no_grad()
    def clip_weights(self):
        for m in self.modules():
            if isinstance(m, BinConv2d):
                m.conv.weight.clamp_(-1.0, 1.0)


def train(args, model, train_loader, optimizer, epoch):
    model.train()
    running_loss = correct = 0
    for batch_idx, (data, target) in enumerate(train_loader):
        optimizer.zero_grad()
        output = model(data)
        loss = F.cross_entropy(output, target)
        loss.backward()
        optimizer.step()
        model.clip_weights()
        running_loss += loss.item() * len(data)
        correct += output.argmax(dim=1).eq(target).sum().item()
        if batch_idx % args.log_interval == 0 and batch_idx:
            print("Train Epoch: {} [{}/{}]\tLoss: {:.6f}".format(epoch, batch_idx * len(data), len(train_loader.dataset), loss.item()))
    n = len(train_loader.dataset)
    return running_loss / n, correct / n


def test(model, test_loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data)
            test_loss += F.cross_entropy(output, target, reduction="sum").item()
            correct += output.argmax(dim=1, keepdim=True).eq(target.view(-1, 1)).sum().item()
    test_loss /= len(test_loader.dataset)
    return test_loss, correct / len(test_loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="binary network")
    parser.add_argument("--batch-size", type=int, default=50, metavar="N")
    parser.add_argument("--test-batch-size", type=int, default=200, metavar="N")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--lr", type=float, default=3e-3, metavar="LR")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--log-interval", type=int, default=25, metavar="N")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    transform = lambda image: (image.float() / 255.0 - 0.2) / 0.33
    train_loader = DataLoader(Digits(True, count=1800, transform=transform), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(Digits(False, count=400, transform=transform), batch_size=args.test_batch_size)

    model = BinaryNet()
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[10, 16], gamma=0.2)
    for epoch in range(1, args.epochs + 1):
        train_loss, train_acc = train(args, model, train_loader, optimizer, epoch)
        test_loss, test_acc = test(model, test_loader)
        scheduler.step()
        print("Epoch {}: train loss {:.4f} acc {:.4f} | test loss {:.4f} acc {:.4f}".format(epoch, train_loss, train_acc, test_loss, test_acc))


if __name__ == "__main__":
    main()
