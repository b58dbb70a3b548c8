"""
speedrun.py: colored shapes to > 90% in some seconds, in the airbench manner.
Batched augmentation on tensors, a loader of its own, frozen whitening layer, Nesterov SGD with decoupled hyperparameters,
lookahead, label smoothing and mirrored test-time augmentation.
"""

import time
from math import ceil

import torch
import torch.nn.functional as F
from torch import nn

from toydata import Shapes

hyp = {
    "opt": {
        "train_epochs": 10.0,
        "batch_size": 60,
        "lr": 9.0,  # per 1024 examples
        "momentum": 0.85,
        "weight_decay": 0.0153,  # per 1024 examples, decoupled from lr
        "bias_scaler": 16.0,  # factor of the rate for batch norm biases
        "label_smoothing": 0.1,
        "whiten_bias_epochs": 3,
    },
    "aug": {"flip": True, "translate": 1},
    "net": {"widths": (24, 48, 48), "scaling_factor": 1 / 4, "tta_level": 1},
}

MEAN, STD = torch.tensor([0.49, 0.48, 0.49]), torch.tensor([0.16, 0.14, 0.16])


def batch_flip_lr(inputs):
    flip_mask = (torch.rand(len(inputs)) < 0.5).view(-1, 1, 1, 1)
    return torch.where(flip_mask, inputs.flip(-1), inputs)


def batch_crop(images, crop_size):
    r = (images.size(-1) - crop_size) // 2
    shifts = torch.randint(-r, r + 1, (len(images), 2))
    out = torch.empty((len(images), 3, crop_size, crop_size), dtype=images.dtype)
    for sy in range(-r, r + 1):
        for sx in range(-r, r + 1):
            mask = (shifts[:, 0] == sy) & (shifts[:, 1] == sx)
            out[mask] = images[mask, :, r + sy : r + sy + crop_size, r + sx : r + sx + crop_size]
    return out


class ShapesLoader:
    def __init__(self, train, batch_size, aug=None):
        data = Shapes(train=train, count=None if train else 300, size=24)
        self.images = torch.stack(data.images)
        self.labels = torch.tensor(data.targets)
        self.aug, self.batch_size = aug or {}, batch_size
        self.drop_last = self.shuffle = train
        self.proc_images, self.epoch = {}, 0

    def normalize(self, images):
        return (images - MEAN.view(1, -1, 1, 1)) / STD.view(1, -1, 1, 1)

    def __len__(self):
        return len(self.images) // self.batch_size if self.drop_last else ceil(len(self.images) / self.batch_size)

    def __iter__(self):
        if self.epoch == 0:
            images = self.proc_images["norm"] = self.normalize(self.images)
            if self.aug.get("flip", False):
                images = self.proc_images["flip"] = batch_flip_lr(images)  # first epoch: random, then alternating
            pad = self.aug.get("translate", 0)
            if pad > 0:
                self.proc_images["pad"] = F.pad(images, (pad,) * 4, "reflect")
        if self.aug.get("translate", 0) > 0:
            images = batch_crop(self.proc_images["pad"], self.images.shape[-2])
        elif self.aug.get("flip", False):
            images = self.proc_images["flip"]
        else:
            images = self.proc_images["norm"]
        if self.aug.get("flip", False) and self.epoch % 2 == 1:
            images = images.flip(-1)
        self.epoch += 1
        indices = (torch.randperm if self.shuffle else torch.arange)(len(images))
        for i in range(len(self)):
            idxs = indices[i * self.batch_size : (i + 1) * self.batch_size]
            yield (images[idxs], self.labels[idxs])


class BatchNorm(nn.BatchNorm2d):
    def __init__(self, num_features, momentum=0.6, eps=1e-5):
        super().__init__(num_features, eps=eps, momentum=1 - momentum)
        self.weight.requires_grad = False


class ConvGroup(nn.Module):
    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = BatchNorm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = BatchNorm(channels_out)
        self.activ = nn.GELU()
        for conv in (self.conv1, self.conv2):
            w = conv.weight.data
            nn.init.dirac_(w[: w.size(1)])

    def forward(self, x):
        x = self.activ(self.norm1(self.pool(self.conv1(x))))
        return self.activ(self.norm2(self.conv2(x)))


class Mul(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x * self.scale


def make_net():
    widths = hyp["net"]["widths"]
    whiten = nn.Conv2d(3, 24, 2, padding=0, bias=True)
    whiten.weight.requires_grad = False
    return nn.Sequential(
        whiten, nn.GELU(),
        ConvGroup(24, widths[0]), ConvGroup(widths[0], widths[1]), ConvGroup(widths[1], widths[2]),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(widths[2], 6, bias=False), Mul(hyp["net"]["scaling_factor"]),
    )


def init_whitening_conv(layer, images, eps=5e-3):
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    cov = patches.T @ patches / len(patches)
    values, vectors = torch.linalg.eigh(cov)
    filters = vectors.T.reshape(-1, 3, 2, 2) / torch.sqrt(values.view(-1, 1, 1, 1) + eps)
    layer.weight.data[:] = torch.cat((filters, -filters))


class LookaheadState:
    def __init__(self, net):
        self.net_ema = {k: v.clone() for k, v in net.state_dict().items()}

    def update(self, net, decay):
        for ema_param, net_param in zip(self.net_ema.values(), net.state_dict().values()):
            if net_param.dtype.is_floating_point:
                ema_param.lerp_(net_param, 1 - decay)
                net_param.copy_(ema_param)


def infer(model, loader, tta_level=0):
    model.eval()
    with torch.no_grad():
        out = [model(x) * 0.5 + model(x.flip(-1)) * 0.5 if tta_level else model(x) for x, _ in loader]
    return torch.cat(out)


def evaluate(model, loader, tta_level=0):
    return (infer(model, loader, tta_level).argmax(1) == loader.labels).float().mean().item()


def main(run):
    opt = hyp["opt"]
    batch_size, epochs, momentum = opt["batch_size"], opt["train_epochs"], opt["momentum"]
    # Decoupled: the rate is for a sum over a batch with Nesterov momentum, the decay does not depend on the rate.
    kilostep_scale = 1024 * (1 + 1 / (1 - momentum))
    lr = opt["lr"] / kilostep_scale
    wd = opt["weight_decay"] * batch_size / kilostep_scale
    lr_biases = lr * opt["bias_scaler"]
    loss_fn = nn.CrossEntropyLoss(label_smoothing=opt["label_smoothing"], reduction="none")
    train_loader = ShapesLoader(True, batch_size, aug=hyp["aug"])
    test_loader = ShapesLoader(False, 100)
    total_train_steps = ceil(len(train_loader) * epochs)

    model = make_net()
    init_whitening_conv(model[0], train_loader.normalize(train_loader.images[:500]))
    norm_biases = [p for k, p in model.named_parameters() if "norm" in k and p.requires_grad]
    other_params = [p for k, p in model.named_parameters() if "norm" not in k and p.requires_grad]
    param_configs = [
        dict(params=norm_biases, lr=lr_biases, weight_decay=wd / lr_biases),
        dict(params=other_params, lr=lr, weight_decay=wd / lr),
    ]
    optimizer = torch.optim.SGD(param_configs, momentum=momentum, nesterov=True)

    def triangle(step, start=0.2, peak=0.23, end=0.07):
        x = step / total_train_steps
        return start + (1 - start) * x / peak if x < peak else 1 + (end - 1) * (x - peak) / (1 - peak)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, triangle)
    alpha_schedule = [0.95**5 * (step / total_train_steps) ** 3 for step in range(total_train_steps + 1)]
    lookahead = LookaheadState(model)

    current_steps, start_time = 0, time.time()
    for epoch in range(ceil(epochs)):
        model[0].bias.requires_grad = epoch < opt["whiten_bias_epochs"]
        model.train()
        for inputs, labels in train_loader:
            outputs = model(inputs)
            loss = loss_fn(outputs, labels).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            current_steps += 1
            if current_steps % 5 == 0:
                lookahead.update(model, decay=alpha_schedule[current_steps])
        train_acc = (outputs.detach().argmax(1) == labels).float().mean().item()
        val_acc = evaluate(model, test_loader)
        print(f"run {run} epoch {epoch} loss {loss.item() / batch_size:.4f} train_acc {train_acc:.4f} val_acc {val_acc:.4f}")
    tta_val_acc = evaluate(model, test_loader, tta_level=hyp["net"]["tta_level"])
    print(f"tta_val_acc {tta_val_acc:.4f} in {time.time() - start_time:.1f}s")
    return tta_val_acc


if __name__ == "__main__":
    torch.manual_seed(0)
    main(0)
