"""timm-like recipe: CutMix, random erasing, smoothing, warmup and cosine, EMA of the weights."""
import copy
import math
import random

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

NUM_CLASSES = 6
MEAN, STD = 0.48, 0.18


class RandomErasing:
    def __init__(self, probability=0.25, largest=4):
        self.probability, self.largest = probability, largest

    def __call__(self, img):
        if random.random() > self.probability:
            return img
        h, w = random.randint(2, self.largest), random.randint(2, self.largest)
        top, left = random.randint(0, img.shape[1] - h), random.randint(0, img.shape[2] - w)
        img = img.clone()
        img[:, top:top + h, left:left + w] = torch.randn(img.shape[0], h, w)
        return img


class Compose:
    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return x


def normalize(x):
    return (x - MEAN) / STD


def random_flip(x):
    return x.flip(-1) if random.random() < 0.5 else x


def one_hot(target, smoothing):
    off = smoothing / NUM_CLASSES
    return torch.full((len(target), NUM_CLASSES), off).scatter_(1, target[:, None], 1 - smoothing + off)


class CutMix:
    def __init__(self, alpha=1.0, prob=0.3, smoothing=0.1):
        self.alpha, self.prob, self.smoothing = alpha, prob, smoothing

    def __call__(self, x, target):
        soft = one_hot(target, self.smoothing)
        if random.random() > self.prob:
            return x, soft
        lam = random.betavariate(self.alpha, self.alpha)
        h, w = x.shape[-2:]
        cut_h, cut_w = int(h * math.sqrt(1 - lam)), int(w * math.sqrt(1 - lam))
        cy, cx = random.randrange(h), random.randrange(w)
        y1, y2 = max(cy - cut_h // 2, 0), min(cy + cut_h // 2, h)
        x1, x2 = max(cx - cut_w // 2, 0), min(cx + cut_w // 2, w)
        other = x.flip(0)
        x = x.clone()
        x[:, :, y1:y2, x1:x2] = other[:, :, y1:y2, x1:x2]
        lam = 1 - (y2 - y1) * (x2 - x1) / (h * w)
        return x, soft * lam + soft.flip(0) * (1 - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEma(nn.Module):
    def __init__(self, model, decay=0.98):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(self.decay).add_(model_v, alpha=1 - self.decay)
            else:
                ema_v.copy_(model_v)


def conv_bn(i, o, s=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.SiLU())


def create_model():
    return nn.Sequential(conv_bn(3, 16), conv_bn(16, 32), conv_bn(32, 32, 2), conv_bn(32, 64), conv_bn(64, 64, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, NUM_CLASSES))


@torch.no_grad()
def validate(model, loader):
    model.eval()
    right = total = 0
    for x, y in loader:
        right += (model(x).argmax(1) == y).sum().item()
        total += y.numel()
    return right / total


def main(epochs=28, batch_size=32, base_lr=3e-3, warmup=3):
    random.seed(42)
    torch.manual_seed(42)
    train_set = Shapes(True, transform=Compose(random_flip, normalize, RandomErasing()))
    eval_set = Shapes(False, transform=normalize)
    train_loader = DataLoader(train_set, batch_size, shuffle=True, drop_last=True)
    eval_loader = DataLoader(eval_set, 80)
    model = create_model()
    ema = ModelEma(model)
    mixup_fn = CutMix()
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.02}, {"params": no_decay, "weight_decay": 0.0}], lr=base_lr)
    total, warm = epochs * len(train_loader), warmup * len(train_loader)

    def factor(step):
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    loss_fn = SoftTargetCrossEntropy()
    for epoch in range(epochs):
        model.train()
        running = 0.0
        for x, y in train_loader:
            x, y = mixup_fn(x, y)
            loss = loss_fn(model(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            ema.update(model)
            scheduler.step()
            running += loss.item()
        print(f"epoch {epoch}: loss {running / len(train_loader):.3f} "
              f"acc {validate(model, eval_loader):.3f} ema acc {validate(ema.module, eval_loader):.3f}")


if __name__ == "__main__":
    main()
