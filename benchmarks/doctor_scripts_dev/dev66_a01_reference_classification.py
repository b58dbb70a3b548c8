"""Image classification in the style of the torchvision references: residual network, mixup, EMA."""
import argparse
import random
import time
from collections import defaultdict, deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset, default_collate
# --- utils
class SmoothedValue:
    def __init__(self, window_size=20):
        self.deque = deque(maxlen=window_size)
        self.total, self.count = 0.0, 0
    def update(self, value, n=1):
        self.deque.append(value)
        self.count += n
        self.total += value * n
    @property
    def global_avg(self):
        return self.total / self.count
    def __str__(self):
        return f"{np.median(list(self.deque)):.4f} ({self.global_avg:.4f})"

class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(SmoothedValue)
    def update(self, n=1, **kwargs):
        for k, v in kwargs.items():
            self.meters[k].update(v.item(), n)
    def __str__(self):
        return "  ".join(f"{name}: {meter}" for name, meter in self.meters.items())

class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    """Keeps an exponential moving average of the parameters (and buffers) of a model."""
    def __init__(self, model, decay, device="cpu"):
        def ema_avg(avg_model_param, model_param, num_averaged):
            return decay * avg_model_param + (1 - decay) * model_param
        super().__init__(model, device, ema_avg, use_buffers=True)

def accuracy(output, target, topk=(1,)):
    with torch.inference_mode():
        maxk = max(topk)
        batch_size = target.size(0)
        if target.ndim == 2:
            target = target.max(dim=1)[1]
        _, pred = output.topk(maxk, 1, True, True)
        correct = pred.t().eq(target[None])
        return [correct[:k].flatten().sum(dtype=torch.float32) * (100.0 / batch_size) for k in topk]

def set_weight_decay(model, weight_decay, norm_weight_decay=0.0):
    norm_params, other_params = [], []
    for module in model.modules():
        for _, p in module.named_parameters(recurse=False):
            (norm_params if isinstance(module, nn.BatchNorm2d) else other_params).append(p)
    return [{"params": norm_params, "weight_decay": norm_weight_decay},
            {"params": other_params, "weight_decay": weight_decay}]
# --- data
class RandomMixup:
    def __init__(self, num_classes, alpha=0.2):
        self.num_classes, self.alpha = num_classes, alpha
    def __call__(self, batch, target):
        target = F.one_hot(target, self.num_classes).to(batch.dtype)
        lam = float(np.random.beta(self.alpha, self.alpha))
        batch = lam * batch + (1.0 - lam) * batch.roll(1, 0)
        target = lam * target + (1.0 - lam) * target.roll(1, 0)
        return batch, target

class ClassificationPresetTrain:
    def __init__(self, mean, std, pad=1, erase_prob=0.1):
        self.mean, self.std, self.pad, self.erase_prob = mean, std, pad, erase_prob
    def __call__(self, img):
        h, w = img.shape[-2:]
        img = F.pad((img - self.mean) / self.std, [self.pad] * 4, value=-self.mean / self.std)
        top, left = random.randint(0, 2 * self.pad), random.randint(0, 2 * self.pad)
        img = img[:, top:top + h, left:left + w]
        if random.random() < self.erase_prob:
            y, x = random.randint(0, h - 4), random.randint(0, w - 4)
            img = img.clone()
            img[:, y:y + 4, x:x + 4] = 0.0
        return img

class CanvasDigits(Dataset):
    """Digits on a 12x12 canvas, at a random place, with sensor noise."""
    def __init__(self, images, labels, seed, noise=0.2):
        rng = np.random.RandomState(seed)
        canvas = np.zeros((len(images), 1, 12, 12), dtype=np.float32)
        for i, im in enumerate(images):
            y, x = rng.randint(0, 5, size=2)
            canvas[i, 0, y:y + 8, x:x + 8] = im / 16.0
        canvas += noise * rng.randn(*canvas.shape).astype(np.float32)
        self.images = torch.from_numpy(canvas)
        self.labels = torch.from_numpy(labels).long()
        self.transform = None
    def __len__(self):
        return len(self.labels)
    def __getitem__(self, i):
        return self.transform(self.images[i]), self.labels[i]

def load_data(args):
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.images, digits.target, test_size=0.3, stratify=digits.target, random_state=args.seed)
    dataset = CanvasDigits(x_train, y_train, seed=args.seed)
    dataset_test = CanvasDigits(x_test, y_test, seed=args.seed + 1)
    mean, std = dataset.images.mean().item(), dataset.images.std().item()
    dataset.transform = ClassificationPresetTrain(mean, std)
    dataset_test.transform = lambda img: (img - mean) / std
    return dataset, dataset_test
# --- model
class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))
    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + identity)

class SmallResNet(nn.Module):
    def __init__(self, num_classes, widths=(16, 32, 64)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.layer1 = BasicBlock(widths[0], widths[0])
        self.layer2 = BasicBlock(widths[0], widths[1], stride=2)
        self.layer3 = BasicBlock(widths[1], widths[2], stride=2)
        self.fc = nn.Linear(widths[2], num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)
        for m in self.modules():  # zero-init the last BN of each residual branch
            if isinstance(m, BasicBlock):
                nn.init.constant_(m.bn2.weight, 0)
    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean(dim=(2, 3)))
# --- engine
def train_one_epoch(model, criterion, optimizer, data_loader, epoch, args, model_ema=None):
    model.train()
    metric_logger = MetricLogger()
    for i, (image, target) in enumerate(data_loader):
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if model_ema and i % args.model_ema_steps == 0:
            model_ema.update_parameters(model)
            if epoch < args.lr_warmup_epochs:
                model_ema.n_averaged.fill_(0)
        acc1, _ = accuracy(output, target, topk=(1, 5))
        metric_logger.update(n=image.shape[0], loss=loss, acc1=acc1)
    print(f"Epoch: [{epoch}] lr {optimizer.param_groups[0]['lr']:.4f}  {metric_logger}")

def evaluate(model, criterion, data_loader, log_suffix=""):
    model.eval()
    metric_logger = MetricLogger()
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)
            acc1, acc5 = accuracy(output, target, topk=(1, 5))
            metric_logger.update(n=image.shape[0], loss=criterion(output, target), acc1=acc1, acc5=acc5)
    print(f"Test: {log_suffix} {metric_logger}")
    return metric_logger.meters["acc1"].global_avg

def main(args):
    torch.set_num_threads(1)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    dataset, dataset_test = load_data(args)
    mixup = RandomMixup(num_classes=10, alpha=args.mixup_alpha)
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True,
                             collate_fn=lambda batch: mixup(*default_collate(batch)))
    data_loader_test = DataLoader(dataset_test, batch_size=256)
    model = SmallResNet(num_classes=10)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    parameters = set_weight_decay(model, args.weight_decay)
    optimizer = torch.optim.SGD(parameters, lr=args.lr, momentum=0.9, nesterov=True)
    main_lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    warmup_lr_scheduler = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=args.lr_warmup_decay, total_iters=args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer, schedulers=[warmup_lr_scheduler, main_lr_scheduler], milestones=[args.lr_warmup_epochs])
    adjust = args.batch_size * args.model_ema_steps / args.epochs
    alpha = min(1.0, (1.0 - args.model_ema_decay) * adjust)
    model_ema = ExponentialMovingAverage(model, decay=1.0 - alpha)
    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, epoch, args, model_ema)
        lr_scheduler.step()
        acc = evaluate(model, criterion, data_loader_test)
        acc_ema = evaluate(model_ema, criterion, data_loader_test, log_suffix="EMA")
    print(f"FINAL acc@1 {acc:.2f} ema acc@1 {acc_ema:.2f} time {time.time() - start_time:.0f}s")

def get_args_parser():
    parser = argparse.ArgumentParser(description="Classification training")
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=20, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--lr-warmup-epochs", default=2, type=int)
    parser.add_argument("--lr-warmup-decay", default=0.1, type=float)
    parser.add_argument("--weight-decay", default=5e-4, type=float)
    parser.add_argument("--label-smoothing", default=0.1, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--model-ema-steps", default=2, type=int)
    parser.add_argument("--model-ema-decay", default=0.99, type=float)
    parser.add_argument("--seed", default=7, type=int)
    return parser

if __name__ == "__main__":
    main(get_args_parser().parse_args())
