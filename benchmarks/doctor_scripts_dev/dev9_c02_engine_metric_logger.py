"""Reference-style engine: MetricLogger, warm-up in the first epoch, EMA copy, label smoothing."""
import copy
import math
import time
from collections import defaultdict, deque

import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from toydata import Shapes


class SmoothedValue:
    def __init__(self, window_size=20):
        self.deque = deque(maxlen=window_size)
        self.total, self.count = 0.0, 0

    def update(self, value, n=1):
        self.deque.append(value)
        self.count += n
        self.total += value * n

    def __str__(self):
        median = torch.tensor(list(self.deque)).median().item()
        return f"{median:.4f} ({self.total / max(self.count, 1):.4f})"


class MetricLogger:
    def __init__(self, delimiter="  "):
        self.meters = defaultdict(SmoothedValue)
        self.delimiter = delimiter

    def __getattr__(self, attr):
        if attr in self.__dict__.get("meters", {}):
            return self.meters[attr]
        raise AttributeError(attr)

    def update(self, **kwargs):
        for k, v in kwargs.items():
            self.meters[k].update(v.item() if isinstance(v, torch.Tensor) else v)

    def log_every(self, iterable, print_freq, header=""):
        start = time.time()
        for i, obj in enumerate(iterable):
            yield obj
            if i % print_freq == 0:
                print(header, f"[{i}/{len(iterable)}]", self.delimiter.join(f"{k}: {m}" for k, m in self.meters.items()))
        print(f"{header} Total time: {time.time() - start:.1f}s")


def convbn(i, o, s=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


def train_one_epoch(model, criterion, optimizer, loader, device, epoch, ema, scaler=None):
    model.train()
    metric_logger = MetricLogger()
    warmup = None
    if epoch == 0:
        warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=len(loader) - 1)
    for image, target in metric_logger.log_every(loader, 15, f"Epoch: [{epoch}]"):
        image, target = image.to(device), target.to(device)
        with torch.autocast("cpu", enabled=scaler is not None and scaler.is_enabled()):
            output = model(image)
            loss = criterion(output, target)
        if not math.isfinite(loss.item()):
            raise SystemExit(f"Loss is {loss.item()}, stopping training")
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if warmup is not None:
            warmup.step()
        ema.update_parameters(model)
        acc1 = (output.argmax(1) == target).float().mean() * 100
        metric_logger.update(loss=loss, lr=optimizer.param_groups[0]["lr"], acc1=acc1)


@torch.inference_mode()
def evaluate(model, loader, device, suffix=""):
    model.eval()
    m = MetricLogger()
    for image, target in loader:
        output = model(image.to(device))
        m.meters["acc1"].update((output.argmax(1) == target).float().mean().item() * 100, n=image.shape[0])
    print(f"Test{suffix}: Acc@1 {m.acc1.total / m.acc1.count:.2f}")
    return m.acc1.total / m.acc1.count


torch.manual_seed(3)
device = torch.device("cpu")
train_set, val_set = Shapes(True), Shapes(False)
loader = DataLoader(train_set, batch_sampler=BatchSampler(RandomSampler(train_set), 32, drop_last=True))
val_loader = DataLoader(val_set, 64, sampler=SequentialSampler(val_set))
model = nn.Sequential(convbn(3, 16), convbn(16, 32, 2), convbn(32, 48, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 6))
norm, other = [], []
for mod in model.modules():
    (norm if isinstance(mod, nn.BatchNorm2d) else other).extend(mod.parameters(recurse=False))
optimizer = torch.optim.SGD([{"params": other, "weight_decay": 1e-4}, {"params": norm, "weight_decay": 0.0}], lr=0.1, momentum=0.9)
sched = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[5, 7], gamma=0.1)
ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.95), use_buffers=True)
scaler = torch.amp.GradScaler("cuda", enabled=False)
best = 0
for epoch in range(8):
    train_one_epoch(model, nn.CrossEntropyLoss(label_smoothing=0.1), optimizer, loader, device, epoch, ema, scaler)
    sched.step()
    evaluate(model, val_loader, device)
    best = max(best, evaluate(ema, val_loader, device, suffix=" EMA"))
print("best EMA", best)
