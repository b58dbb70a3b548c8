"""Classification reference: mixup / cutmix, label smoothing, polynomial schedule, averaged weights."""

import argparse
import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, default_collate

from toydata import Shapes


def get_args_parser():
    parser = argparse.ArgumentParser(description="Classification Training", add_help=True)
    parser.add_argument("--epochs", default=12, type=int)
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--label-smoothing", default=0.1, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--cutmix-alpha", default=1.0, type=float)
    parser.add_argument("--mix-prob", default=0.5, type=float)
    parser.add_argument("--model-ema-steps", default=1, type=int)
    parser.add_argument("--model-ema-decay", default=0.96, type=float)
    return parser


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + identity)


class TinyResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean(dim=(2, 3)))


class RandomMix:
    """Collate function that blends the batch with itself, by mixup or by cutmix."""

    def __init__(self, num_classes, args):
        self.num_classes, self.args = num_classes, args

    def __call__(self, samples):
        batch, target = default_collate(samples)
        target = F.one_hot(target, self.num_classes).float()
        if random.random() >= self.args.mix_prob:
            return batch, target
        partner, partner_target = batch.roll(1, 0), target.roll(1, 0)
        if random.random() < 0.5:
            lam = random.betavariate(self.args.mixup_alpha, self.args.mixup_alpha)
            batch = lam * batch + (1 - lam) * partner
        else:
            lam = random.betavariate(self.args.cutmix_alpha, self.args.cutmix_alpha)
            height, width = batch.shape[-2:]
            cy, cx = random.randrange(height), random.randrange(width)
            half_h, half_w = int(0.5 * height * (1 - lam) ** 0.5), int(0.5 * width * (1 - lam) ** 0.5)
            y1, y2 = max(cy - half_h, 0), min(cy + half_h, height)
            x1, x2 = max(cx - half_w, 0), min(cx + half_w, width)
            batch[:, :, y1:y2, x1:x2] = partner[:, :, y1:y2, x1:x2]
            lam = 1 - (y2 - y1) * (x2 - x1) / (height * width)
        return batch, lam * target + (1 - lam) * partner_target


class ExponentialMovingAverage:
    def __init__(self, model, decay):
        self.module, self.decay = copy.deepcopy(model), decay
        self.module.requires_grad_(False)

    @torch.no_grad()
    def update_parameters(self, model):
        for averaged, value in zip(self.module.state_dict().values(), model.state_dict().values()):
            if averaged.is_floating_point():
                averaged.lerp_(value, 1 - self.decay)
            else:
                averaged.copy_(value)


def train_transform(image):
    if random.random() < 0.5:
        image = image.flip(-1)
    return (image - 0.5) / 0.25


def eval_transform(image):
    return (image - 0.5) / 0.25


def train_one_epoch(model, criterion, optimizer, scheduler, data_loader, epoch, args, model_ema):
    model.train()
    for i, (image, target) in enumerate(data_loader):
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if i % args.model_ema_steps == args.model_ema_steps - 1:
            model_ema.update_parameters(model)
        if i % 10 == 0:
            lr = scheduler.get_last_lr()[0]
            print(f"Epoch [{epoch}][{i}/{len(data_loader)}] lr {lr:.4f} loss {loss.item():.4f}")


def evaluate(model, data_loader, log_suffix=""):
    model.eval()
    acc1, total_loss, seen = 0.0, 0.0, 0
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)
            batch_acc = (output.argmax(1) == target).float().mean().item()
            acc1 += batch_acc * len(image)
            total_loss += F.cross_entropy(output, target, reduction="sum").item()
            seen += len(image)
    print(f"Test{log_suffix}: Acc@1 {100 * acc1 / seen:.2f} loss {total_loss / seen:.4f}")
    return acc1 / seen


def main(args):
    torch.manual_seed(0)
    random.seed(0)
    train_set, test_set = Shapes(train=True, transform=train_transform), Shapes(train=False, transform=eval_transform)
    collate_fn = RandomMix(6, args)
    data_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True, collate_fn=collate_fn)
    data_loader_test = DataLoader(test_set, batch_size=100)

    model = TinyResNet(num_classes=6)
    model_ema = ExponentialMovingAverage(model, args.model_ema_decay)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    total_iters = args.epochs * len(data_loader)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total_iters, power=0.9)
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, scheduler, data_loader, epoch, args, model_ema)
        evaluate(model, data_loader_test)
        accuracy = evaluate(model_ema.module, data_loader_test, log_suffix=" EMA")
    print(f"final EMA accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(get_args_parser().parse_args())
