"""In the idiom of torch.optim.swa_utils: averaging from an epoch on, SWALR, statistics of batch norm anew, a compiled step."""

import argparse

import torch
import torch.nn.functional as F
from toydata import Digits
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader


def to_tensor(image):
    return image.float().div(255).sub(0.17).div(0.33)


def conv_bn(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class Net(nn.Module):
    def __init__(self, width, use_amp):
        super().__init__()
        self.features = nn.Sequential(conv_bn(1, width), nn.MaxPool2d(2), conv_bn(width, 2 * width), nn.MaxPool2d(2))
        self.classifier, self.use_amp = nn.Linear(32 * width, 10), use_amp

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.use_amp):
            x = self.features(x)
            x = self.classifier(x.flatten(1))
        return x.float()


def evaluate(net, loader):
    net.eval()
    correct, loss_sum = 0, 0.0
    with torch.no_grad():
        for x, y in loader:
            out = net(x)
            loss_sum += F.cross_entropy(out, y, reduction="sum").item()
            correct += int((out.argmax(1) == y).sum())
    n = len(loader.dataset)
    return loss_sum / n, correct / n


def run(opt):
    torch.manual_seed(opt["seed"])
    train_set, test_set = Digits(train=True, transform=to_tensor), Digits(train=False, transform=to_tensor)
    train_loader = DataLoader(train_set, batch_size=opt["batch"], shuffle=True)
    test_loader = DataLoader(test_set, batch_size=100)
    net = Net(opt["width"], opt["amp"])
    swa_net = AveragedModel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=opt["lr"], momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=opt["epochs"])
    swa_scheduler = SWALR(optimizer, swa_lr=opt["swa_lr"], anneal_epochs=1)
    for epoch in range(opt["epochs"]):
        net.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
        if epoch >= opt["swa_start"]:
            swa_net.update_parameters(net)
            swa_scheduler.step()
        else:
            scheduler.step()
        print(epoch, loss.item(), evaluate(net, test_loader))
    update_bn(train_loader, swa_net)
    print("SWA", evaluate(swa_net, test_loader))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=6)
    config = dict(batch=48, lr=0.05, swa_lr=0.02, swa_start=3, seed=8, amp=False)
    config.update(vars(parser.parse_args()))
    run(config)
