"""Classification reference script, trimmed down from the torchvision one."""
import argparse
import datetime
import time
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, default_collate

from toydata import Digits

MEAN, STD = 0.18, 0.30

class ClassificationPresetTrain:
    def __init__(self, crop_padding=1, mean=MEAN, std=STD):
        self.padding, self.mean, self.std = crop_padding, mean, std

    def __call__(self, img):
        size = img.shape[-1]
        img = F.pad(img.float() / 255.0, [self.padding] * 4)
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        img = img[:, top : top + size, left : left + size]
        return (img - self.mean) / self.std

class ClassificationPresetEval:
    def __init__(self, mean=MEAN, std=STD):
        self.mean, self.std = mean, std

    def __call__(self, img):
        img = img.float() / 255.0
        return (img - self.mean) / self.std

class RandomMixup:
    def __init__(self, num_classes, p=0.5, alpha=0.2):
        self.num_classes, self.p, self.alpha = num_classes, p, alpha

    def __call__(self, batch, target):
        target = F.one_hot(target, num_classes=self.num_classes).float()
        if torch.rand(1).item() >= self.p:
            return batch, target
        batch_rolled = batch.roll(1, 0)
        target_rolled = target.roll(1, 0)
        lambda_param = float(torch._sample_dirichlet(torch.tensor([self.alpha, self.alpha]))[0])
        batch = batch * lambda_param + batch_rolled * (1.0 - lambda_param)
        target = target * lambda_param + target_rolled * (1.0 - lambda_param)
        return batch, target

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
        out = self.bn2(self.conv2(out))
        return F.relu(out + identity)

class ResNet(nn.Module):
    def __init__(self, num_classes=10, width=12):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, 2 * width, stride=2)
        self.layer3 = BasicBlock(2 * width, 4 * width, stride=2)
        self.fc = nn.Linear(4 * width, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean(dim=(2, 3)))

class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay, device="cpu"):
        def ema_avg(avg_model_param, model_param, num_averaged):
            return decay * avg_model_param + (1 - decay) * model_param

        super().__init__(model, device, ema_avg, use_buffers=True)

class MetricLogger:
    def __init__(self):
        self.total, self.count = defaultdict(float), defaultdict(int)

    def update(self, n=1, **values):
        for k, v in values.items():
            self.total[k] += v * n
            self.count[k] += n

    def global_avg(self, k):
        return self.total[k] / max(self.count[k], 1)

def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema=None):
    model.train()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if model_ema is not None:
            model_ema.update_parameters(model)
        metric_logger.update(n=image.shape[0], loss=loss.item())
    print(f"Epoch: [{epoch}] lr {optimizer.param_groups[0]['lr']:.4f} loss {metric_logger.global_avg('loss'):.4f}")

def evaluate(model, criterion, data_loader, device, log_suffix=""):
    model.eval()
    metric_logger = MetricLogger()
    with torch.inference_mode():
        for image, target in data_loader:
            image, target = image.to(device), target.to(device)
            output = model(image)
            acc1 = (output.argmax(dim=1) == target).float().mean().item() * 100
            metric_logger.update(n=image.shape[0], loss=criterion(output, target).item(), acc1=acc1)
    print(f"Test: {log_suffix} Acc@1 {metric_logger.global_avg('acc1'):.2f} loss {metric_logger.global_avg('loss'):.4f}")
    return metric_logger.global_avg("acc1")

def main(args):
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    dataset = Digits(train=True, transform=ClassificationPresetTrain())
    dataset_test = Digits(train=False, transform=ClassificationPresetEval())
    mixup = RandomMixup(num_classes=10, p=0.5, alpha=args.mixup_alpha)
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True,
                             collate_fn=lambda batch: mixup(*default_collate(batch)))
    data_loader_test = DataLoader(dataset_test, batch_size=100)

    model = ResNet(num_classes=10).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD([{"params": decay, "weight_decay": args.weight_decay},
                                 {"params": no_decay, "weight_decay": 0.0}], lr=args.lr, momentum=0.9, nesterov=True)
    main_lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=args.lr_step_size, gamma=args.lr_gamma)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, main_lr_scheduler], [args.lr_warmup_epochs])
    model_ema = ExponentialMovingAverage(model, device=device, decay=args.model_ema_decay)

    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema)
        lr_scheduler.step()
        evaluate(model_ema, criterion, data_loader_test, device=device, log_suffix="EMA")
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}")

def get_args_parser():
    parser = argparse.ArgumentParser(description="Classification Training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-b", "--batch-size", default=40, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--wd", default=1e-4, type=float, dest="weight_decay")
    parser.add_argument("--label-smoothing", default=0.05, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--lr-step-size", default=5, type=int, help="decrease lr every step-size epochs")
    parser.add_argument("--lr-gamma", default=0.1, type=float)
    parser.add_argument("--lr-warmup-epochs", default=1, type=int)
    parser.add_argument("--model-ema-decay", default=0.95, type=float)
    parser.add_argument("--seed", default=0, type=int)
    return parser

if __name__ == "__main__":
    main(get_args_parser().parse_args())
