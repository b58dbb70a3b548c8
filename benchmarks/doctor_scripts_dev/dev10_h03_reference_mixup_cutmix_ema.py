"""Reference-style classification of textures: mixup/cutmix in the collate function, EMA, warmup and cosine, norm-free decay."""
import argparse
import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset, default_collate


def gratings(count, size, seed):
    """Stripes of four directions and two widths: every part of an image shows its class."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 8, (count,), generator=g)
    angle = (labels % 4).float() * math.pi / 4 + 0.12 * torch.randn(count, generator=g)
    period = torch.where(labels < 4, 4.0, 8.0) * (1 + 0.05 * torch.randn(count, generator=g))
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    along = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
    phase = 2 * math.pi * torch.rand(count, generator=g)
    image = 0.5 + 0.3 * torch.sin(2 * math.pi * along / period[:, None, None] + phase[:, None, None])
    image = image + 0.15 * torch.randn(image.shape, generator=g)
    return image[:, None].clamp(0, 1), labels


class RandomMix:
    """One of mixup and cutmix per batch; targets become probabilities."""

    def __init__(self, classes, mixup_alpha=0.2, cutmix_alpha=1.0):
        self.classes, self.mixup_alpha, self.cutmix_alpha = classes, mixup_alpha, cutmix_alpha

    def __call__(self, samples):
        images, labels = default_collate(samples)
        target = nn.functional.one_hot(labels, self.classes).float()
        partner, soft = images.roll(1, 0), target.roll(1, 0)
        if torch.rand(()) < 0.5:
            lam = float(torch.distributions.Beta(self.mixup_alpha, self.mixup_alpha).sample())
            images = lam * images + (1 - lam) * partner
        else:
            lam = float(torch.distributions.Beta(self.cutmix_alpha, self.cutmix_alpha).sample())
            h, w = images.shape[-2:]
            cy, cx = int(torch.randint(h, ())), int(torch.randint(w, ()))
            half_h, half_w = int(h * math.sqrt(1 - lam) / 2), int(w * math.sqrt(1 - lam) / 2)
            top, bottom, left, right = max(cy - half_h, 0), min(cy + half_h, h), max(cx - half_w, 0), min(cx + half_w, w)
            images = images.clone()
            images[..., top:bottom, left:right] = partner[..., top:bottom, left:right]
            lam = 1 - (bottom - top) * (right - left) / (h * w)
        return images, lam * target + (1 - lam) * soft


def conv_bn(i, o, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.SiLU())


def build_model(classes):
    return nn.Sequential(conv_bn(1, 24), conv_bn(24, 32, 2), conv_bn(32, 48), conv_bn(48, 64, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def split_decay(model, decay):
    norm, other = [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            (norm if isinstance(module, nn.BatchNorm2d) or name == "bias" else other).append(parameter)
    return [{"params": other, "weight_decay": decay}, {"params": norm, "weight_decay": 0.0}]


def evaluate(model, loader, title):
    model.eval()
    correct = count = 0
    with torch.inference_mode():
        for image, target in loader:
            correct += (model(image).argmax(1) == target).sum().item()
            count += len(target)
    print(f"{title} Acc@1 {correct / count:.4f}")
    return correct / count


def main(args):
    torch.manual_seed(0)
    train_x, train_y = gratings(1536, 20, 0)
    val_x, val_y = gratings(400, 20, 1)
    mean, std = train_x.mean(), train_x.std()
    train_set, val_set = TensorDataset((train_x - mean) / std, train_y), TensorDataset((val_x - mean) / std, val_y)
    loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True, collate_fn=RandomMix(8))
    val_loader = DataLoader(val_set, batch_size=200)

    model = build_model(8)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(split_decay(model, args.weight_decay), lr=args.lr, momentum=0.9, nesterov=True)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=args.warmup_epochs)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.warmup_epochs)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[args.warmup_epochs])
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema_decay), use_buffers=True)

    for epoch in range(args.epochs):
        model.train()
        total = torch.zeros(())
        for image, target in loader:
            loss = criterion(model(image), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update_parameters(model)
            total += loss.detach()
        print(f"epoch {epoch} lr {optimizer.param_groups[0]['lr']:.4f} loss {total.item() / len(loader):.4f}")
        scheduler.step()
        evaluate(model, val_loader, "Test:")
        evaluate(ema, val_loader, "EMA: ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--warmup-epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--label-smoothing", type=float, default=0.05)
    parser.add_argument("--ema-decay", type=float, default=0.95)
    main(parser.parse_args())
