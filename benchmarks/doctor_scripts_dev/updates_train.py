"""In the idiom of timm's train.py: accumulation, clipping, EMA, a schedule of updates, label smoothing."""

import argparse
import math
from copy import deepcopy

import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, Dataset

CONFIG = "{batch_size: 16, grad_accum_steps: 2, lr: 0.006, weight_decay: 0.02, clip_grad: 1.0, epochs: 6, decay: 0.95}"


class Flags(Dataset):
    """Two bands of two of three colors, in six orders."""

    def __init__(self, train, transform):
        generator = torch.Generator().manual_seed(3 if train else 4)
        colors = torch.tensor([[0.8, 0.2, 0.2], [0.2, 0.7, 0.3], [0.2, 0.25, 0.8]])
        orders = [(a, b) for a in range(3) for b in range(3) if a != b]
        self.targets = torch.randint(0, 6, (800 if train else 240,), generator=generator).tolist()
        self.images = 0.12 * torch.randn(len(self.targets), 3, 16, 16, generator=generator)
        for image, target in zip(self.images, self.targets, strict=True):
            edge = int(torch.randint(5, 12, (1,), generator=generator))
            image[:, :edge] += colors[orders[target][0]].view(3, 1, 1)
            image[:, edge:] += colors[orders[target][1]].view(3, 1, 1)
        self.transform = transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]


class ModelEmaV2(nn.Module):
    def __init__(self, model, decay=0.9999):
        super().__init__()
        self.module = deepcopy(model)
        self.module.eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v if ema_v.is_floating_point() else model_v)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv_dw = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.mlp = nn.Sequential(nn.Conv2d(dim, 2 * dim, 1), nn.GELU(), nn.Conv2d(2 * dim, dim, 1))
        self.gamma = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x):
        return x + self.gamma * self.mlp(self.norm(self.conv_dw(x)))


def create_model(num_classes=6, dim=32):
    return nn.Sequential(
        nn.Conv2d(3, dim, 2, 2), LayerNorm2d(dim), ConvNeXtBlock(dim), ConvNeXtBlock(dim), nn.Conv2d(dim, dim, 2, 2),
        ConvNeXtBlock(dim), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * dim, num_classes))  # fmt: skip


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, warmup_t, lr_min=1e-5):
        self.optimizer, self.t_initial, self.warmup_t, self.lr_min = optimizer, t_initial, warmup_t, lr_min
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, num_updates):
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            if num_updates < self.warmup_t:
                group["lr"] = base * (num_updates + 1) / self.warmup_t
            else:
                done = min(1.0, (num_updates - self.warmup_t) / (self.t_initial - self.warmup_t))
                group["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * done))


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, model_ema):
    model.train()
    accum_steps = args.grad_accum_steps
    updates_per_epoch = len(loader) // accum_steps
    num_updates = epoch * updates_per_epoch
    optimizer.zero_grad()
    for batch_idx, (input, target) in enumerate(loader):
        need_update = (batch_idx + 1) % accum_steps == 0
        output = model(input)
        loss = loss_fn(output, target)
        loss = loss / accum_steps
        loss.backward()
        if not need_update:
            continue
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
        num_updates += 1
        model_ema.update(model)
        lr_scheduler.step_update(num_updates)
    print("train", epoch, loss.item() * accum_steps, optimizer.param_groups[0]["lr"])


def validate(model, loader, loss_fn):
    model.eval()
    right = total = 0
    with torch.inference_mode():
        for input, target in loader:
            output = model(input)
            right += (output.argmax(1) == target).sum().item()
            total += target.numel()
    return {"top1": 100.0 * right / total}


def main():
    parser = argparse.ArgumentParser()
    for key, value in yaml.safe_load(CONFIG).items():
        parser.add_argument(f"--{key}", type=type(value), default=value)
    args = parser.parse_args()
    torch.manual_seed(42)
    to_input = lambda image: (image - 0.4) / 0.3  # noqa: E731
    loader_train = DataLoader(Flags(True, transform=to_input), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Flags(False, transform=to_input), 2 * args.batch_size)
    model = create_model()
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": args.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr)
    model_ema = ModelEmaV2(model, args.decay)
    train_loss_fn, validate_loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss()
    updates = args.epochs * (len(loader_train) // args.grad_accum_steps)
    lr_scheduler = CosineLRScheduler(optimizer, updates, warmup_t=10)
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, args, lr_scheduler, model_ema)
        metrics = validate(model, loader_eval, validate_loss_fn)
        ema_metrics = validate(model_ema.module, loader_eval, validate_loss_fn)
        print(metrics, ema_metrics)


if __name__ == "__main__":
    main()
