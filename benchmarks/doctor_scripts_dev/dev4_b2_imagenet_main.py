import argparse
import random
from collections import OrderedDict
from copy import deepcopy

import torch
import torch.nn as nn
import torch.optim
import torch.utils.data
from toydata import Shapes

parser = argparse.ArgumentParser(description="PyTorch Shapes Training")
parser.add_argument("--epochs", default=8, type=int, metavar="N")
parser.add_argument("-b", "--batch-size", default=128, type=int, metavar="N")
parser.add_argument("--lr", "--learning-rate", default=0.1, type=float, metavar="LR")
parser.add_argument("--momentum", default=0.9, type=float, metavar="M")
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, metavar="W", dest="weight_decay")
parser.add_argument("--clip-grad", default=5.0, type=float)
parser.add_argument("-p", "--print-freq", default=4, type=int, metavar="N")
parser.add_argument("--seed", default=7, type=int)

MEAN = torch.tensor([0.5, 0.47, 0.5]).view(3, 1, 1)
STD = torch.tensor([0.2, 0.15, 0.2]).view(3, 1, 1)
best_acc1 = 0.0


def train_transform(image):
    if random.random() < 0.5:
        image = image.flip(-1)
    return (image - MEAN) / STD


def val_transform(image):
    return (image - MEAN) / STD


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def create_model(num_classes=6):
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(conv_bn(3, 16), conv_bn(16, 32, 2), conv_bn(32, 32), conv_bn(32, 64, 2)),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, num_classes),
        )
    )


def main():
    global args, best_acc1
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    model = nn.DataParallel(create_model())
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay, nesterov=True
    )
    scaler = torch.amp.GradScaler("cpu")

    held_out = Shapes(train=False, count=460, transform=val_transform)
    val_set = torch.utils.data.Subset(held_out, range(160))
    test_set = torch.utils.data.Subset(held_out, range(160, 460))
    train_loader = torch.utils.data.DataLoader(
        Shapes(train=True, count=1280, transform=train_transform), batch_size=args.batch_size, shuffle=True
    )
    val_loader = torch.utils.data.DataLoader(val_set, batch_size=args.batch_size, shuffle=False)
    test_loader = torch.utils.data.DataLoader(test_set, batch_size=args.batch_size, shuffle=False)

    best = None
    for epoch in range(args.epochs):
        adjust_learning_rate(optimizer, epoch)
        train(train_loader, model, criterion, optimizer, scaler, epoch)
        acc1 = validate(val_loader, model, criterion)
        if acc1 >= best_acc1:
            best_acc1 = acc1
            best = {"epoch": epoch + 1, "state_dict": deepcopy(model.state_dict()), "best_acc1": acc1}

    final = create_model()
    state_dict = {key.replace("module.", "", 1): value for key, value in best["state_dict"].items()}
    final.load_state_dict(state_dict)
    print(f"loaded checkpoint of epoch {best['epoch']} (acc1 {best['best_acc1']:.2f})")
    acc1 = validate(test_loader, final, criterion)
    print(f"final test Acc@1 {acc1:.2f}")


def train(train_loader, model, criterion, optimizer, scaler, epoch):
    losses, top1 = AverageMeter("Loss"), AverageMeter("Acc@1")
    model.train()
    for i, (images, target) in enumerate(train_loader):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(images)
            loss = criterion(output, target)
        acc1, _ = accuracy(output, target, topk=(1, 2))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1.item(), images.size(0))

        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        scaler.step(optimizer)
        scaler.update()

        if i % args.print_freq == 0:
            print(f"Epoch: [{epoch}][{i}/{len(train_loader)}]\t{losses}\t{top1}")


def validate(val_loader, model, criterion):
    losses, top1, top2 = AverageMeter("Loss"), AverageMeter("Acc@1"), AverageMeter("Acc@2")
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            loss = criterion(output, target)
            acc1, acc2 = accuracy(output, target, topk=(1, 2))
            losses.update(loss.item(), images.size(0))
            top1.update(acc1.item(), images.size(0))
            top2.update(acc2.item(), images.size(0))
    print(f" * {losses} {top1} {top2}")
    return top1.avg


class AverageMeter:
    """Computes and stores the average and current value"""

    def __init__(self, name):
        self.name, self.val, self.avg, self.sum, self.count = name, 0, 0, 0, 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        return f"{self.name} {self.val:.3f} ({self.avg:.3f})"


def adjust_learning_rate(optimizer, epoch):
    """Sets the learning rate to the initial LR decayed by 10 every 5 epochs"""
    lr = args.lr * (0.1 ** (epoch // 5))
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        batch_size = target.size(0)
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
        return [correct[:k].reshape(-1).float().sum(0) * (100.0 / batch_size) for k in topk]


if __name__ == "__main__":
    main()
