"""Five networks trained at once with torch.func (vmap over stacked weights): prices, with the ensemble's own doubt."""

import copy

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from toydata import houses

MEMBERS, EPOCHS, BATCH = 5, 22, 64


def make_mlp():
    return nn.Sequential(nn.Linear(8, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 1))


class Scaler:
    def __init__(self, values):
        self.mean, self.std = values.mean(0), values.std(0)

    def __call__(self, values):
        return (values - self.mean) / self.std

    def back(self, values):
        return values * self.std + self.mean


class Ensemble:
    def __init__(self, members):
        networks = [make_mlp() for _ in range(members)]
        self.params, self.buffers = stack_module_state(networks)
        self.skeleton = copy.deepcopy(networks[0]).to("meta")

    def _one(self, params, buffers, x):
        return functional_call(self.skeleton, (params, buffers), (x,)).squeeze(-1)

    def __call__(self, x, shared=True):
        """members x samples; `shared`: the same inputs for all members."""
        return vmap(self._one, in_dims=(0, 0, None if shared else 0))(self.params, self.buffers, x)

    def parameters(self):
        return list(self.params.values())


def bootstrap_batches(count, members, batch, generator):
    """For each member its own draw with replacement of as many samples as there are."""
    draws = torch.randint(0, count, (members, count), generator=generator)
    yield from draws.split(batch, dim=1)


def evaluate(ensemble, x, price, scale_y):
    with torch.no_grad():
        prediction = scale_y.back(ensemble(x))
    mean, doubt = prediction.mean(0), prediction.std(0)
    total = ((price - price.mean()) ** 2).sum()
    single = 1 - ((prediction - price) ** 2).sum(1) / total
    together = 1 - ((mean - price) ** 2).sum() / total
    error = (mean - price).abs()
    ranks = torch.stack([error.argsort().argsort(), doubt.argsort().argsort()]).float()
    return single.mean().item(), together.item(), torch.corrcoef(ranks)[0, 1].item()


def main():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x, price = houses(2000, seed=0)
    val_x, val_price = houses(400, seed=1)
    scale_x, scale_y = Scaler(x), Scaler(price)
    x, y, val_x = scale_x(x), scale_y(price), scale_x(val_x)

    ensemble = Ensemble(MEMBERS)
    optimizer = torch.optim.AdamW(ensemble.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = EPOCHS * -(-len(x) // BATCH)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=30),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - 30),
        ],
        milestones=[30],
    )
    for epoch in range(EPOCHS):
        losses = []
        for index in bootstrap_batches(len(x), MEMBERS, BATCH, generator):
            errors = (ensemble(x[index], shared=False) - y[index]) ** 2
            loss = errors.mean(1).sum()  # members do not touch each other's gradients
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item() / MEMBERS)
        single, together, agreement = evaluate(ensemble, val_x, val_price, scale_y)
        print(
            f"epoch {epoch:2d}  loss {sum(losses) / len(losses):.4f}  r2 single {single:.4f}  together {together:.4f}"
            f"  doubt and error go together {agreement:.2f}"
        )


if __name__ == "__main__":
    main()
