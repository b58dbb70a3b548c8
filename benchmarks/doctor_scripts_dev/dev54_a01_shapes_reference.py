"""Image classification, after torchvision's references/classification/train.py."""

import argparse
import datetime
import time
from collections import defaultdict

import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes

MEAN, STD = (0.49, 0.46, 0.51), (0.14, 0.14, 0.15)


class ClassificationPresetTrain:
    def __init__(self, crop_padding=1, hflip_prob=0.5):
        self.padding, self.hflip_prob = crop_padding, hflip_prob
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def __call__(self, img):
        size = img.shape[-1]
        if torch.rand(1).item() < self.hflip_prob:
            img = img.flip(-1)
        img = nn.functional.pad(img, [self.padding] * 4, value=0.5)
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        img = img[:, top : top + size, left : left + size]
        return (img - self.mean) / self.std


class ClassificationPresetEval:
    def __init__(self):
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def __call__(self, img):
        img = img.sub(self.mean).div(self.std)
        return img


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
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
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 48, 2))
        self.fc = nn.Linear(48, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.layers(self.stem(x))
        return self.fc(x.mean((2, 3)))


class MetricLogger:
    def __init__(self):
        self.total, self.count = defaultdict(float), defaultdict(int)

    def update(self, name, value, n=1):
        self.total[name] += value * n
        self.count[name] += n

    def __getitem__(self, name):
        return self.total[name] / max(self.count[name], 1)


def mixup(image, target, num_classes, alpha):
    target = nn.functional.one_hot(target, num_classes).to(image.dtype)
    lam = float(torch._sample_dirichlet(torch.tensor([alpha, alpha]))[0])
    index = torch.randperm(len(image))
    image = lam * image + (1.0 - lam) * image[index]
    target = lam * target + (1.0 - lam) * target[index]
    return image, target


def set_weight_decay(model, weight_decay, norm_weight_decay):
    norm, other = [], []
    for module in model.modules():
        for p in module.parameters(recurse=False):
            (norm if isinstance(module, nn.BatchNorm2d) else other).append(p)
    return [{"params": norm, "weight_decay": norm_weight_decay}, {"params": other, "weight_decay": weight_decay}]


def train_one_epoch(model, criterion, optimizer, scheduler, data_loader, device, epoch, args, model_ema):
    model.train()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        image, target = mixup(image, target, len(NAMES), args.mixup_alpha)
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        model_ema.update_parameters(model)
        metric_logger.update("loss", loss.item(), len(image))
    print(f"Epoch: [{epoch}]  lr {optimizer.param_groups[0]['lr']:.5f}  loss {metric_logger['loss']:.4f}")


@torch.inference_mode()
def evaluate(model, criterion, data_loader, device, log_suffix=""):
    model.eval()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        output = model(image)
        metric_logger.update("loss", criterion(output, target).item(), len(image))
        metric_logger.update("acc1", (output.argmax(1) == target).float().mean().item(), len(image))
    print(f"Test: {log_suffix} Acc@1 {100 * metric_logger['acc1']:.2f}  loss {metric_logger['loss']:.4f}")
    return metric_logger["acc1"]


def get_args_parser():
    parser = argparse.ArgumentParser(description="Classification Training")
    parser.add_argument("-b", "--batch-size", default=30, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--lr-warmup-epochs", default=1, type=int)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--label-smoothing", default=0.05, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--model-ema-decay", default=0.95, type=float)
    return parser


def main(args):
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = Shapes(train=True, transform=ClassificationPresetTrain())
    dataset_test = Shapes(train=False, transform=ClassificationPresetEval())
    data_loader = DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = DataLoader(dataset_test, 60)

    model = ResNet(len(NAMES)).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    parameters = set_weight_decay(model, args.weight_decay, norm_weight_decay=0.0)
    optimizer = torch.optim.SGD(parameters, lr=args.lr, momentum=0.9, nesterov=True)
    warmup_iters = args.lr_warmup_epochs * len(data_loader)
    main_iters = args.epochs * len(data_loader) - warmup_iters
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=warmup_iters)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=main_iters, eta_min=1e-4)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_iters])
    decay = args.model_ema_decay
    model_ema = torch.optim.swa_utils.AveragedModel(
        model, avg_fn=lambda avg, p, n: decay * avg + (1 - decay) * p, use_buffers=True
    )

    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, scheduler, data_loader, device, epoch, args, model_ema)
        evaluate(model, criterion, data_loader_test, device)
        evaluate(model_ema, criterion, data_loader_test, device, log_suffix="EMA")
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}")


if __name__ == "__main__":
    main(get_args_parser().parse_args())
