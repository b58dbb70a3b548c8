"""Classification of generated traffic-sign-like pictures, in the manner of vision/references/classification/train.py."""
import argparse
import os
import random
import tempfile
from collections import defaultdict, deque

import numpy as np
import torch
from torch import nn
from torch.utils.data.dataloader import default_collate

CLASSES = [(s, c) for s in ("disc", "square", "triangle", "cross") for c in ("red", "blue")]
MEAN, STD = (0.44, 0.36, 0.41), (0.26, 0.22, 0.26)


class SmoothedValue:
    def __init__(self, window_size=20):
        self.deque, self.total, self.count = deque(maxlen=window_size), 0.0, 0

    def update(self, value, n=1):
        self.deque.append(value)
        self.count += n
        self.total += value * n

    global_avg = property(lambda self: self.total / self.count)

    def __str__(self):
        return f"{np.median(self.deque):.4f} ({self.global_avg:.4f})"


class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(SmoothedValue)

    def log_every(self, iterable, print_freq, header=""):
        for i, obj in enumerate(iterable):
            yield obj
            if i % print_freq == 0:
                print(header, f"[{i}/{len(iterable)}]", "  ".join(f"{k}: {m}" for k, m in self.meters.items()))


class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model, decay, device="cpu"):
        super().__init__(model, device, lambda avg, p, n: decay * avg + (1 - decay) * p, use_buffers=True)


def draw(shape, colour, rng, size=24):
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    cx, cy, r = rng.uniform(9, 15), rng.uniform(9, 15), rng.uniform(5, 8)
    dx, dy = xx - cx, yy - cy
    m = {"disc": dx ** 2 + dy ** 2 < r ** 2,
         "square": (abs(dx) < r * .85) & (abs(dy) < r * .85),
         "triangle": (dy < r * .8) & (dy > 2 * abs(dx) - r),
         "cross": ((abs(dx) < r * .35) & (abs(dy) < r)) | ((abs(dy) < r * .35) & (abs(dx) < r))}[shape]
    img = np.ones((size, size, 3), np.float32) * rng.uniform(.3, .6, 3).astype(np.float32)
    main, side = rng.uniform(.7, 1.), rng.uniform(0., .3)
    paint = (main, .25, side * .8) if colour == "red" else (side * .8, .25, main)
    img[m] = np.asarray(paint, np.float32)
    img += rng.normal(0, .09, img.shape)
    return (img.clip(0, 1) * 255).astype(np.uint8)


class SignFolder(torch.utils.data.Dataset):
    # like an ImageFolder: samples are listed class after class
    def __init__(self, per_class, seed, transform):
        rng = np.random.default_rng(seed)
        self.samples = [(draw(s, c, rng), k) for k, (s, c) in enumerate(CLASSES) for _ in range(per_class)]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        img, target = self.samples[i]
        return self.transform(img), target


class ClassificationPresetEval:
    def __call__(self, img):
        x = torch.from_numpy(np.ascontiguousarray(img)).permute(2, 0, 1).float().div(255)
        return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


class ClassificationPresetTrain(ClassificationPresetEval):
    def __call__(self, img, p=2):
        if random.random() < 0.5:
            img = img[:, ::-1]
        padded = np.pad(img, ((p, p), (p, p), (0, 0)), mode="edge")
        i, j = random.randint(0, 2 * p), random.randint(0, 2 * p)
        return super().__call__(padded[i:i + img.shape[0], j:j + img.shape[1]])


class RandomMixup:
    def __init__(self, num_classes, p=0.5, alpha=0.2):
        self.num_classes, self.p, self.alpha = num_classes, p, alpha

    def __call__(self, batch, target):
        target = nn.functional.one_hot(target, self.num_classes).float()
        if torch.rand(1).item() >= self.p:
            return batch, target
        batch_rolled = batch.roll(1, 0)
        target_rolled = target.roll(1, 0)
        lam = float(torch._sample_dirichlet(torch.tensor([self.alpha, self.alpha]))[0])
        return batch * lam + batch_rolled * (1 - lam), target * lam + target_rolled * (1 - lam)


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + self.down(x))


def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema=None, scaler=None):
    model.train()
    metric_logger = MetricLogger()
    for i, (image, target) in enumerate(metric_logger.log_every(data_loader, args.print_freq, f"Epoch: [{epoch}]")):
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if args.clip_grad_norm is not None:
            # we should unscale the gradients of optimizer's assigned params if do gradient clipping
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        if model_ema and i % args.model_ema_steps == 0:
            model_ema.update_parameters(model)
            if epoch < args.lr_warmup_epochs:
                # Reset ema buffer to keep copying weights during warmup period
                model_ema.n_averaged.fill_(0)
        metric_logger.meters["loss"].update(loss.item())
        metric_logger.meters["lr"].update(optimizer.param_groups[0]["lr"])


def evaluate(model, criterion, data_loader, device, log_suffix=""):
    model.eval()
    metric_logger = MetricLogger()
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image.to(device))
            acc1 = (output.argmax(1) == target).float().mean().item() * 100
            metric_logger.meters["loss"].update(criterion(output, target).item(), n=image.shape[0])
            metric_logger.meters["acc1"].update(acc1, n=image.shape[0])
    print(f"Test: {log_suffix} Acc@1 {metric_logger.meters['acc1'].global_avg:.2f} loss {metric_logger.meters['loss'].global_avg:.4f}")


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cpu")
    dataset, dataset_test = SignFolder(120, 11, ClassificationPresetTrain()), SignFolder(60, 12, ClassificationPresetEval())
    train_sampler = torch.utils.data.RandomSampler(dataset)
    mixup = RandomMixup(len(CLASSES), p=args.mixup_prob, alpha=args.mixup_alpha)
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, sampler=train_sampler, drop_last=True,
                                              collate_fn=lambda batch: mixup(*default_collate(batch)))
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=args.batch_size)

    model = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True), BasicBlock(16, 24, 2),
                          BasicBlock(24, 40, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, len(CLASSES))).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD([{"params": [p for p in model.parameters() if p.ndim > 1]}, {"params": no_decay, "weight_decay": 0.0}],
                                lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    scaler = torch.amp.GradScaler("cpu", enabled=args.amp)
    main_lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    warmup_lr_scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=args.lr_warmup_decay, total_iters=args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, schedulers=[warmup_lr_scheduler, main_lr_scheduler], milestones=[args.lr_warmup_epochs])

    # decay is adjusted so that it does not depend on the batch size and the number of epochs
    adjust = args.batch_size * args.model_ema_steps / args.epochs
    alpha = min(1.0, (1.0 - args.model_ema_decay) * adjust)
    model_ema = ExponentialMovingAverage(model, decay=1.0 - alpha, device=device)

    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema, scaler)
        lr_scheduler.step()
        evaluate(model, criterion, data_loader_test, device)
        evaluate(model_ema, criterion, data_loader_test, device, log_suffix="EMA")
        torch.save({"model": model.state_dict(), "model_ema": model_ema.state_dict(), "epoch": epoch}, os.path.join(args.output_dir, "checkpoint.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="PyTorch Classification Training")
    for name, kind, default in [
            ("batch-size", int, 32), ("epochs", int, 10), ("lr", float, 0.1), ("weight-decay", float, 1e-4),
            ("label-smoothing", float, 0.05), ("mixup-alpha", float, 0.2), ("mixup-prob", float, 0.5),
            ("lr-warmup-epochs", int, 2), ("lr-warmup-decay", float, 0.01), ("clip-grad-norm", float, 1.0),
            ("model-ema-steps", int, 4), ("model-ema-decay", float, 0.98), ("print-freq", int, 20), ("seed", int, 3)]:
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--amp", default=True, action=argparse.BooleanOptionalAction)
    parser.add_argument("--output-dir", default=tempfile.mkdtemp())
    main(parser.parse_args())
