import argparse
import time
from collections import defaultdict, deque

import torch
import torch.nn.functional as F
import torch.utils.data
from torch import nn

from toydata import draw_digits

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


class SmoothedValue:
    def __init__(self, window_size=20):
        self.deque, self.total, self.count = deque(maxlen=window_size), 0.0, 0

    def update(self, value, n=1):
        self.deque.append(value)
        self.count += n
        self.total += value * n

    @property
    def global_avg(self):
        return self.total / self.count


class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(SmoothedValue)

    def __str__(self):
        return "  ".join(f"{name}: {meter.global_avg:.4f}" for name, meter in self.meters.items())


class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay):
        def ema_avg(avg_param, model_param, num_averaged):
            return decay * avg_param + (1 - decay) * model_param

        super().__init__(model, avg_fn=ema_avg, use_buffers=True)


class RandomShift:
    def __init__(self, by):
        self.by = by

    def __call__(self, image):
        dy, dx = torch.randint(0, 2 * self.by + 1, (2,)).tolist()
        height, width = image.shape[-2:]
        return F.pad(image, [self.by] * 4)[..., dy : dy + height, dx : dx + width]


class RandomErasing:
    def __init__(self, p, size):
        self.p, self.size = p, size

    def __call__(self, image):
        if torch.rand(()) < self.p:
            top, left = torch.randint(0, image.shape[-1] - self.size + 1, (2,)).tolist()
            image = image.clone()
            image[..., top : top + self.size, left : left + self.size] = 0.0
        return image


class Folder(torch.utils.data.Dataset):
    """Images beside the names of their folders."""

    def __init__(self, images, names, transforms=()):
        self.images, self.transforms = images, transforms
        self.classes = sorted(set(names))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.targets = [self.class_to_idx[name] for name in names]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = (self.images[index].float() / 255 - 0.22) / 0.31
        for transform in self.transforms:
            image = transform(image)
        return image, self.targets[index]


def load_data():
    images, labels = draw_digits(1600, seed=100, noise=0.15)
    val_images, val_labels = draw_digits(400, seed=101, noise=0.15)
    transforms = [RandomShift(1), RandomErasing(p=0.25, size=4)]
    dataset = Folder(images, [WORDS[i] for i in labels.tolist()], transforms)
    dataset_test = Folder(val_images, [WORDS[i] for i in val_labels.tolist()])
    return dataset, dataset_test


def conv_bn(cin, cout, stride):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def build_model(num_classes):
    return nn.Sequential(
        conv_bn(1, 24, 1), conv_bn(24, 32, 2), conv_bn(32, 48, 2), nn.Flatten(), nn.Linear(48 * 16, num_classes)
    )


def train_one_epoch(model, criterion, optimizer, data_loader, epoch, model_ema):
    model.train()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        model_ema.update_parameters(model)
        acc1 = (output.argmax(1) == target).float().mean().item()
        metric_logger.meters["loss"].update(loss.item(), n=len(image))
        metric_logger.meters["acc1"].update(acc1, n=len(image))
    print(f"Epoch: [{epoch}]  {metric_logger}  lr: {optimizer.param_groups[0]['lr']:.4f}")


@torch.inference_mode()
def evaluate(model, data_loader, log_suffix=""):
    model.eval()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        output = model(image)
        acc1 = (output.argmax(1) == target).float().mean().item()
        metric_logger.meters["loss"].update(F.cross_entropy(output, target).item(), n=len(image))
        metric_logger.meters["acc1"].update(acc1, n=len(image))
    print(f"Test: {log_suffix} {metric_logger}")
    return metric_logger.meters["acc1"].global_avg


def set_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def main(args):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dataset, dataset_test = load_data()
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=100)
    model = build_model(len(dataset.classes))
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(set_weight_decay(model, args.weight_decay), lr=args.lr, momentum=0.9)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=args.lr_warmup_epochs)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], [args.lr_warmup_epochs])
    model_ema = ExponentialMovingAverage(model, decay=args.model_ema_decay)

    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, epoch, model_ema)
        lr_scheduler.step()
        evaluate(model_ema, data_loader_test, log_suffix="EMA")
    print(f"Training time {time.time() - start_time:.0f} s")


def get_args_parser():
    parser = argparse.ArgumentParser(description="Classification Training")
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=12, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
    parser.add_argument("--label-smoothing", default=0.1, type=float)
    parser.add_argument("--lr-warmup-epochs", default=2, type=int)
    parser.add_argument("--model-ema-decay", default=0.97, type=float)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
