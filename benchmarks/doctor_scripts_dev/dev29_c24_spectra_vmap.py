"""Concentrations from infrared spectra: five networks in one, by torch.func.vmap, each on its own bootstrap batches."""
import copy

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

BANDS, SUBSTANCES, MEMBERS, BATCH, EPOCHS = 100, 3, 5, 64, 60


def spectra(count, seed):
    shapes = torch.Generator().manual_seed(808)  # every substance has its own lines, always the same
    band = torch.linspace(0, 1, BANDS)
    centers = torch.rand(SUBSTANCES, 4, 1, generator=shapes)
    widths = 0.02 + 0.05 * torch.rand(SUBSTANCES, 4, 1, generator=shapes)
    heights = 0.3 + 0.7 * torch.rand(SUBSTANCES, 4, 1, generator=shapes)
    pure = (heights * torch.exp(-0.5 * ((band - centers) / widths) ** 2)).sum(1)
    g = torch.Generator().manual_seed(seed)
    amounts = torch.rand(count, SUBSTANCES, generator=g)
    light = amounts @ pure
    light = light / (1 + 0.3 * light)  # the detector saturates a little
    drift = 0.1 * torch.randn(count, 1, generator=g) + 0.1 * torch.randn(count, 1, generator=g) * band
    return light + drift + 0.02 * torch.randn(count, BANDS, generator=g), amounts


def make_net():
    return nn.Sequential(nn.Linear(BANDS, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, SUBSTANCES))


def main():
    torch.manual_seed(10)
    train_x, train_y = spectra(1600, seed=1)
    val_x, val_y = spectra(400, seed=2)
    x_mean, x_std = train_x.mean(0), train_x.std(0)
    y_mean, y_std = train_y.mean(0), train_y.std(0)
    train_x, val_x = (train_x - x_mean) / x_std, (val_x - x_mean) / x_std
    train_z = (train_y - y_mean) / y_std

    nets = [make_net() for _ in range(MEMBERS)]
    params, buffers = stack_module_state(nets)
    skeleton = copy.deepcopy(nets[0]).to("meta")

    def call(member_params, member_buffers, x):
        return functional_call(skeleton, (member_params, member_buffers), (x,))

    each_its_own = vmap(call, in_dims=(0, 0, 0))
    all_the_same = vmap(call, in_dims=(0, 0, None))

    optimizer = torch.optim.AdamW(list(params.values()), lr=2e-3, weight_decay=1e-2)
    steps = len(train_x) // BATCH
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * steps)
    bags = torch.randint(0, len(train_x), (MEMBERS, len(train_x)))  # drawn with replacement, once

    for epoch in range(EPOCHS):
        order = torch.stack([bag[torch.randperm(len(bag))] for bag in bags])
        total = 0.0
        for step in range(steps):
            rows = order[:, step * BATCH : (step + 1) * BATCH]
            outputs = each_its_own(params, buffers, train_x[rows])
            per_member = (outputs - train_z[rows]).pow(2).mean(dim=(1, 2))
            loss = per_member.sum()  # members share nothing, so the sum trains each by its own mean
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() / MEMBERS

        with torch.no_grad():
            guesses = all_the_same(params, buffers, val_x) * y_std + y_mean
        residual = (guesses.mean(0) - val_y).pow(2).sum(0)
        r2 = 1 - residual / (val_y - val_y.mean(0)).pow(2).sum(0)
        alone = (guesses - val_y).pow(2).mean(dim=(1, 2)).sqrt().mean().item()
        together = (guesses.mean(0) - val_y).pow(2).mean().sqrt().item()
        print(f"epoch {epoch + 1:2d}: train mse {total / steps:.5f}, val R2 {r2.mean().item():.4f}, "
              f"RMSE {together:.4f} (single networks {alone:.4f})")


if __name__ == "__main__":
    main()
