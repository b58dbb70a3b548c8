"""Classification in the manner of torchvision's references: presets, MetricLogger, mixup, EMA, warmup and cosine."""

import argparse
import time
from collections import defaultdict

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from toydata import NAMES, Shapes

MEAN, STD = (0.5, 0.45, 0.5), (0.16, 0.18, 0.2)

class Normalize:
    def __init__(self, mean, std):
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, image):
        return (image - self.mean) / self.std

class ClassificationPresetTrain:
    def __init__(self, mean=MEAN, std=STD, hflip_prob=0.5):
        self.hflip_prob = hflip_prob
        self.normalize = Normalize(mean, std)

    def __call__(self, image):
        if torch.rand(()) < self.hflip_prob:
            image = image.flip(-1)
        return self.normalize(image)

class ClassificationPresetEval:
    def __init__(self, mean=MEAN, std=STD):
        self.normalize = Normalize(mean, std)

    def __call__(self, image):
        return self.normalize(image)

class MetricLogger:
    def __init__(self):
        self.totals, self.counts = defaultdict(float), defaultdict(int)

    def update(self, n=1, **values):
        for name, value in values.items():
            self.totals[name] += float(value) * n
            self.counts[name] += n

    def global_avg(self, name):
        return self.totals[name] / self.counts[name]

    def __str__(self):
        return "  ".join(f"{name} {self.global_avg(name):.4f}" for name in self.totals)

class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay, device="cpu"):
        def ema_avg(avg_model_param, model_param, num_averaged):
            return decay * avg_model_param + (1 - decay) * model_param

        super().__init__(model, device, ema_avg, use_buffers=True)

def conv_bn(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )

def smallnet(num_classes):
    return nn.Sequential(
        conv_bn(3, 16),
        conv_bn(16, 32, stride=2),
        conv_bn(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )

def set_weight_decay(model, weight_decay, norm_weight_decay):
    params = {"other": [], "norm": []}
    params_weight_decay = {"other": weight_decay, "norm": norm_weight_decay}
    for module in model.modules():
        kind = "norm" if isinstance(module, nn.BatchNorm2d) else "other"
        params[kind] += [p for p in module.parameters(recurse=False) if p.requires_grad]
    param_groups = []
    for key in params:
        if len(params[key]) > 0:
            param_groups.append({"params": params[key], "weight_decay": params_weight_decay[key]})
    return param_groups

def mixup(image, target, alpha):
    lam = float(torch.distributions.Beta(alpha, alpha).sample())
    rolled = image.roll(1, 0)
    target_rolled = target.roll(1, 0)
    return lam * image + (1 - lam) * rolled, target, target_rolled, lam

def train_one_epoch(model, criterion, optimizer, data_loader, epoch, args, model_ema=None):
    model.train()
    metric_logger = MetricLogger()
    for i, (image, target) in enumerate(data_loader):
        image, target_a, target_b, lam = mixup(image, target, args.mixup_alpha)
        output = model(image)
        loss = lam * criterion(output, target_a) + (1 - lam) * criterion(output, target_b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        if model_ema and i % args.model_ema_steps == 0:
            model_ema.update_parameters(model)
            if epoch < args.lr_warmup_epochs:
                # Reset ema buffer to keep copying weights during warmup period
                model_ema.n_averaged.fill_(0)
        metric_logger.update(n=len(target), loss=loss.item())
    print(f"Epoch: [{epoch}]  lr {optimizer.param_groups[0]['lr']:.5f}  {metric_logger}")

@torch.inference_mode()
def evaluate(model, criterion, data_loader, header):
    model.eval()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        output = model(image)
        acc1 = (output.argmax(1) == target).float().mean()
        metric_logger.update(n=len(target), loss=criterion(output, target), acc1=acc1)
    print(f"{header} {metric_logger}")
    return metric_logger.global_avg("acc1")

def main(args):
    torch.manual_seed(args.seed)
    dataset = Shapes(train=True, transform=ClassificationPresetTrain(MEAN, STD))
    dataset_test = Shapes(train=False, transform=ClassificationPresetEval(MEAN, STD))
    data_loader = DataLoader(dataset, args.batch_size, sampler=RandomSampler(dataset), drop_last=True)
    data_loader_test = DataLoader(dataset_test, args.batch_size, sampler=SequentialSampler(dataset_test))

    model = smallnet(len(NAMES))
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    parameters = set_weight_decay(model, args.weight_decay, args.norm_weight_decay)
    optimizer = torch.optim.SGD(parameters, lr=args.lr, momentum=0.9, nesterov=True)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=args.lr_warmup_epochs)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], [args.lr_warmup_epochs])
    model_ema = ExponentialMovingAverage(model, decay=args.model_ema_decay)

    start_time, best = time.time(), 0.0
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, epoch, args, model_ema)
        lr_scheduler.step()
        evaluate(model, criterion, data_loader_test, "Test:")
        acc_ema = evaluate(model_ema, criterion, data_loader_test, "Test EMA:")
        best = max(best, acc_ema)
    print(f"Training time {time.time() - start_time:.1f} s, best EMA acc1 {best:.3f}")

def get_args_parser():
    parser = argparse.ArgumentParser(description="Classification training")
    parser.add_argument("--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--weight-decay", default=5e-4, type=float)
    parser.add_argument("--norm-weight-decay", default=0.0, type=float)
    parser.add_argument("--label-smoothing", default=0.05, type=float)
    parser.add_argument("--mixup-alpha", default=0.2, type=float)
    parser.add_argument("--lr-warmup-epochs", default=1, type=int)
    parser.add_argument("--model-ema-steps", default=2, type=int)
    parser.add_argument("--model-ema-decay", default=0.9, type=float)
    parser.add_argument("--seed", default=0, type=int)
    return parser

if __name__ == "__main__":
    main(get_args_parser().parse_args())
