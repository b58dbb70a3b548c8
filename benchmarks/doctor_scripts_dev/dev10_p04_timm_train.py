"""A train script in the manner of timm: model registry, mixer blocks with drop path, loss scaler, cosine scheduler, EMA."""

import argparse
import logging
import math
import os
import tempfile
from collections import OrderedDict
from copy import deepcopy

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Digits

_logger = logging.getLogger("train")
_registry = {}


def register_model(fn):
    _registry[fn.__name__] = fn
    return fn


def drop_path(x, drop_prob=0.0, training=False):
    if drop_prob == 0.0 or not training:
        return x
    keep_prob = 1 - drop_prob
    random_tensor = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep_prob)
    random_tensor.div_(keep_prob)
    return x * random_tensor


class DropPath(nn.Module):
    def __init__(self, drop_prob=0.0):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        return drop_path(x, self.drop_prob, self.training)


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class MixerBlock(nn.Module):
    def __init__(self, tokens, dim, drop):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp_tokens, self.mlp_channels = Mlp(tokens, 32), Mlp(dim, dim * 2)
        self.drop_path = DropPath(drop)

    def forward(self, x):
        x = x + self.drop_path(self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2))
        return x + self.drop_path(self.mlp_channels(self.norm2(x)))


class Mixer(nn.Module):
    def __init__(self, num_classes, dim=32, depth=2, patch=2, size=16, drop_path_rate=0.0):
        super().__init__()
        self.stem = nn.Conv2d(1, dim, patch, patch)
        rates = torch.linspace(0, drop_path_rate, depth).tolist()
        self.blocks = nn.Sequential(*[MixerBlock((size // patch) ** 2, dim, rate) for rate in rates])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.apply(self._init_weights)
        nn.init.zeros_(self.head.weight)

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


@register_model
def mixer_pico(num_classes, **kwargs):
    return Mixer(num_classes, **kwargs)


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v)


class RandomErasing:
    def __init__(self, probability=0.25, min_area=0.02, max_area=0.12):
        self.probability, self.min_area, self.max_area = probability, min_area, max_area

    def __call__(self, image):
        if torch.rand(()) > self.probability:
            return image
        _, height, width = image.shape
        area = float(torch.empty(()).uniform_(self.min_area, self.max_area)) * height * width
        side = min(height, max(1, int(math.sqrt(area))))
        top, left = int(torch.randint(0, height - side + 1, ())), int(torch.randint(0, width - side + 1, ()))
        image[:, top : top + side, left : left + side] = torch.randn(image.shape[0], side, side)
        return image


class Transform:
    def __init__(self, is_training, re_prob=0.0):
        self.is_training, self.erase = is_training, RandomErasing(re_prob)

    def __call__(self, image):
        image = (image.float() / 255 - 0.2) / 0.32
        if self.is_training:
            image = image.roll(tuple(torch.randint(-1, 2, (2,)).tolist()), (1, 2))
            image = self.erase(image.clone())
        return image


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, lr_min, warmup_t, warmup_lr_init):
        self.optimizer, self.t_initial, self.lr_min = optimizer, t_initial, lr_min
        self.warmup_t, self.warmup_lr_init = warmup_t, warmup_lr_init
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, t):
        for group, base in zip(self.optimizer.param_groups, self.base):
            if t < self.warmup_t:
                group["lr"] = self.warmup_lr_init + t * (base - self.warmup_lr_init) / self.warmup_t
            else:
                t_cur = min(t, self.t_initial)
                group["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * t_cur / self.t_initial))


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if param.ndim <= 1 or name.endswith(".bias"):
            no_decay.append(param)
        else:
            decay.append(param)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


class LossScaler:
    """Backward, clip and step in one place."""

    def __call__(self, loss, optimizer, clip_grad, parameters):
        loss.backward()
        if clip_grad is not None:
            nn.utils.clip_grad_norm_(parameters, clip_grad)
        optimizer.step()


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, scheduler, loss_scaler, model_ema):
    model.train()
    num_updates = epoch * len(loader)
    running = 0.0
    for input, target in loader:
        loss = loss_fn(model(input), target)
        loss_scaler(loss, optimizer, args.clip_grad, list(model.parameters()))
        optimizer.zero_grad()
        model_ema.update(model)
        num_updates += 1
        scheduler.step_update(num_updates)
        running += loss.item() * len(input)
    return OrderedDict([("loss", running / len(loader.dataset))])


@torch.no_grad()
def validate(model, loader, loss_fn, log_suffix=""):
    model.eval()
    loss = top1 = 0.0
    for input, target in loader:
        output = model(input)
        loss += loss_fn(output, target).item() * len(input)
        top1 += (output.argmax(-1) == target).sum().item()
    count = len(loader.dataset)
    _logger.info(f"Test{log_suffix}: loss {loss / count:.4f} acc@1 {100 * top1 / count:.2f}")
    return OrderedDict([("loss", loss / count), ("top1", 100 * top1 / count)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="mixer_pico")
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--lr", type=float, default=None)
    parser.add_argument("--lr-base", type=float, default=0.048)
    parser.add_argument("--lr-base-size", type=int, default=256)
    parser.add_argument("--warmup-epochs", type=int, default=2)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--clip-grad", type=float, default=1.0)
    parser.add_argument("--drop-path", type=float, default=0.1)
    parser.add_argument("--reprob", type=float, default=0.25)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--model-ema-decay", type=float, default=0.97)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(42)

    model = _registry[args.model](num_classes=10, drop_path_rate=args.drop_path)
    if args.lr is None:
        batch_ratio = args.batch_size / args.lr_base_size
        args.lr = args.lr_base * batch_ratio
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    model_ema = ModelEma(model, args.model_ema_decay)
    loader_train = DataLoader(Digits(train=True, transform=Transform(True, args.reprob)), args.batch_size, shuffle=True)
    loader_eval = DataLoader(Digits(train=False, transform=Transform(False)), 100)
    updates = len(loader_train)
    scheduler = CosineLRScheduler(optimizer, args.epochs * updates, 1e-5, args.warmup_epochs * updates, 1e-5)

    output_dir, best = tempfile.mkdtemp(), None
    train_loss, eval_loss = nn.CrossEntropyLoss(label_smoothing=args.smoothing), nn.CrossEntropyLoss()
    for epoch in range(args.epochs):
        metrics = train_one_epoch(epoch, model, loader_train, optimizer, train_loss, args, scheduler, LossScaler(), model_ema)
        _logger.info(f"Train: {epoch} loss {metrics['loss']:.4f} lr {optimizer.param_groups[0]['lr']:.5f}")
        validate(model, loader_eval, eval_loss)
        ema_metrics = validate(model_ema.module, loader_eval, eval_loss, log_suffix=" (EMA)")
        if best is None or ema_metrics["top1"] > best[0]:
            best = (ema_metrics["top1"], epoch)
            torch.save(model_ema.module.state_dict(), os.path.join(output_dir, "model_best.pth.tar"))
    _logger.info("*** Best metric: {0} (epoch {1})".format(*best))


if __name__ == "__main__":
    main()
