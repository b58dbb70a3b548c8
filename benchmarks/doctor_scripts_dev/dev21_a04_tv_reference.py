"""Image classification after torchvision's references/classification/train.py (presets, utils, train in one file)."""
import argparse
import datetime
import time
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler

from toydata import Shapes


class ShapeFolder(Dataset):
    """Like ImageFolder: samples sorted by class, one folder for each class."""

    def __init__(self, train, count, transform=None):
        files = Shapes(train=train, count=count)
        self.classes, self.class_to_idx = self.find_classes(files.names)
        self.samples = [((image * 255).to(torch.uint8), self.class_to_idx[name])
                        for image, name in zip(files.images, files.names)]
        self.samples.sort(key=lambda sample: sample[1])
        self.transform = transform

    def find_classes(self, names):
        classes = sorted(set(names))
        return classes, {name: i for i, name in enumerate(classes)}

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample, target = self.samples[index]
        return self.transform(sample), target


class ClassificationPresetTrain:
    def __init__(self, mean=(0.49, 0.45, 0.49), std=(0.2, 0.15, 0.2), hflip_prob=0.5, padding=1):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self.hflip_prob, self.padding = hflip_prob, padding

    def __call__(self, img):
        img = (img.float() / 255 - self.mean) / self.std
        if torch.rand(1) < self.hflip_prob:
            img = img.flip(-1)
        size = img.shape[-1]
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        return F.pad(img, [self.padding] * 4)[:, top:top + size, left:left + size]


class ClassificationPresetEval:
    def __init__(self, mean=(0.49, 0.45, 0.49), std=(0.2, 0.15, 0.2)):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, img):
        return (img.float() / 255 - self.mean) / self.std


class MetricLogger:
    def __init__(self):
        self.total, self.count = defaultdict(float), defaultdict(int)

    def update(self, name, value, n):
        self.total[name] += value * n
        self.count[name] += n

    def global_avg(self, name):
        return self.total[name] / self.count[name]

    def __str__(self):
        return "  ".join(f"{name}: {self.global_avg(name):.4f}" for name in self.total)


def accuracy(output, target, topk=(1,)):
    """Computes the accuracy over the k top predictions for the specified values of k"""
    with torch.inference_mode():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target[None])
        return [correct[:k].flatten().sum(dtype=torch.float32) * (100.0 / target.size(0)) for k in topk]


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = BasicBlock(16, 16)
        self.layer2 = BasicBlock(16, 32, stride=2)
        self.layer3 = BasicBlock(32, 64, stride=2)
        self.fc = nn.Linear(64, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch):
    model.train()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        acc1, = accuracy(output, target)
        metric_logger.update("loss", loss.item(), image.shape[0])
        metric_logger.update("acc1", acc1.item(), image.shape[0])
    print(f"Epoch: [{epoch}]  lr: {optimizer.param_groups[0]['lr']:.5f}  {metric_logger}")


def evaluate(model, criterion, data_loader, device):
    model.eval()
    metric_logger = MetricLogger()
    with torch.inference_mode():
        for image, target in data_loader:
            image, target = image.to(device), target.to(device)
            output = model(image)
            loss = criterion(output, target)
            acc1, acc2 = accuracy(output, target, topk=(1, 2))
            metric_logger.update("loss", loss.item(), image.shape[0])
            metric_logger.update("acc1", acc1.item(), image.shape[0])
            metric_logger.update("acc2", acc2.item(), image.shape[0])
    print(f"Test:  {metric_logger}")
    return metric_logger.global_avg("acc1")


def load_data(args):
    dataset = ShapeFolder(train=True, count=1200, transform=ClassificationPresetTrain())
    dataset_test = ShapeFolder(train=False, count=300, transform=ClassificationPresetEval())
    train_sampler = RandomSampler(dataset)
    test_sampler = SequentialSampler(dataset_test)
    return dataset, dataset_test, train_sampler, test_sampler


def main(args):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = torch.device(args.device)
    dataset, dataset_test, train_sampler, test_sampler = load_data(args)
    data_loader = DataLoader(dataset, batch_size=args.batch_size, sampler=train_sampler)
    data_loader_test = DataLoader(dataset_test, batch_size=args.batch_size, sampler=test_sampler)

    model = ResNet(num_classes=len(dataset.classes)).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay)

    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=args.lr_warmup_epochs)
    main_lr = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, main_lr], milestones=[args.lr_warmup_epochs])

    print("Start training")
    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch)
        lr_scheduler.step()
        evaluate(model, criterion, data_loader_test, device)
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}")


def get_args_parser():
    parser = argparse.ArgumentParser(description="PyTorch Classification Training", add_help=True)
    parser.add_argument("--device", default="cpu", type=str, help="device (Use cuda or cpu Default: cpu)")
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=20, type=int, metavar="N", help="number of total epochs to run")
    parser.add_argument("--lr", default=0.05, type=float, help="initial learning rate")
    parser.add_argument("--momentum", default=0.9, type=float, metavar="M", help="momentum")
    parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
    parser.add_argument("--label-smoothing", default=0.05, type=float, help="label smoothing")
    parser.add_argument("--lr-warmup-epochs", default=2, type=int, help="the number of epochs to warmup")
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
