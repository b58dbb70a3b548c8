"""Denoise digits. Everything is a pure function of (params, batch); the module only describes the architecture."""
import math
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call

from toydata import draw_digits


class Hyper(NamedTuple):
    features: int = 24
    sigma: float = 0.3
    batch_size: int = 40
    epochs: int = 10
    peak_lr: float = 3e-3
    weight_decay: float = 1e-4
    warmup: int = 15
    seed: int = 3


class TrainState(NamedTuple):
    step: int
    params: dict
    tx: torch.optim.Optimizer
    schedule: object


MEAN, STD = 0.2, 0.33


class Denoiser(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.conv_in = nn.Conv2d(1, features, 3, padding=1)
        self.conv_mid1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_mid2 = nn.Conv2d(features, features, 3, padding=2, dilation=2)
        self.conv_out = nn.Conv2d(features, 1, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.conv_in(x))
        x = F.relu(self.conv_mid1(x))
        x = F.relu(self.conv_mid2(x))
        return self.conv_out(x)


def init(rng, model):
    """He-normal weights, zero biases; returns a pytree (a flat dict) of leaves."""
    params = {}
    for name, p in model.named_parameters():
        if p.ndim == 1:
            value = torch.zeros(p.shape)
        else:
            fan_in = p[0].numel()
            value = torch.randn(p.shape, generator=rng) * (2.0 / fan_in) ** 0.5
        params[name] = value.requires_grad_()
    return params


def make_schedule(hyper, total):
    def schedule(step):
        if step < hyper.warmup:
            return hyper.peak_lr * (step + 1) / hyper.warmup
        progress = (step - hyper.warmup) / (total - hyper.warmup)
        return hyper.peak_lr * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

    return schedule


def create_train_state(rng, model, hyper, total):
    params = init(rng, model)
    tx = torch.optim.AdamW(params.values(), lr=hyper.peak_lr, weight_decay=hyper.weight_decay)
    return TrainState(0, params, tx, make_schedule(hyper, total))


def load_arrays(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.02)
    return (images.float() / 255.0 - MEAN) / STD


def corrupt(rng, clean, sigma):
    return clean + sigma / STD * torch.randn(clean.shape, generator=rng)


def batches(rng, array, batch_size):
    order = torch.randperm(len(array), generator=rng)
    for start in range(0, len(array) - batch_size + 1, batch_size):
        yield array[order[start : start + batch_size]]


def make_step(model):
    def apply(params, x):
        return functional_call(model, params, (x,))

    def loss_fn(params, noisy, clean):
        return F.mse_loss(apply(params, noisy), clean)

    def train_step(state, noisy, clean):
        for group in state.tx.param_groups:
            group["lr"] = state.schedule(state.step)
        state.tx.zero_grad()
        loss = loss_fn(state.params, noisy, clean)
        loss.backward()
        state.tx.step()
        return state._replace(step=state.step + 1), loss.item()

    @torch.no_grad()
    def eval_step(params, noisy, clean):
        restored = apply(params, noisy)
        error = ((restored - clean) * STD).square().mean(dim=(1, 2, 3))
        return error

    return train_step, eval_step


def psnr(mse):
    """Peak signal-to-noise ratio in dB, for images between 0 and 1."""
    return 10.0 * torch.log10(1.0 / mse)


def main(hyper=Hyper()):
    torch.manual_seed(hyper.seed)
    rng = torch.Generator().manual_seed(hyper.seed)
    train_images, test_images = load_arrays(1000, seed=0), load_arrays(200, seed=1)
    # the corruption of the test images is drawn once, so that epochs can be compared
    test_noisy = corrupt(torch.Generator().manual_seed(99), test_images, hyper.sigma)
    total = hyper.epochs * (len(train_images) // hyper.batch_size)

    model = Denoiser(hyper.features)
    state = create_train_state(rng, model, hyper, total)
    train_step, eval_step = make_step(model)
    before = psnr(((test_noisy - test_images) * STD).square().mean(dim=(1, 2, 3))).mean()
    print(f"{sum(p.numel() for p in state.params.values())} parameters, noisy test PSNR {before:.2f} dB")

    for epoch in range(hyper.epochs):
        losses = []
        for clean in batches(rng, train_images, hyper.batch_size):
            noisy = corrupt(rng, clean, hyper.sigma)
            state, loss = train_step(state, noisy, clean)
            losses.append(loss)
        error = eval_step(state.params, test_noisy, test_images)
        print(
            f"epoch {epoch:2d} step {state.step:4d} train {sum(losses) / len(losses):.4f} "
            f"test mse {error.mean():.5f} psnr {psnr(error).mean():.2f} dB"
        )


if __name__ == "__main__":
    main()
