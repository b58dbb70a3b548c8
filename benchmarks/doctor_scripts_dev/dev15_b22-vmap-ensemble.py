"""
Deep ensemble without a loop over its members: torch.func stacks the weights of all networks, vmap runs them at once.
Every member gets its own order of the data.
"""
from functools import partial

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.utils._pytree import tree_map

from toydata import draw_digits

MEMBERS, EPOCHS, BATCH = 4, 8, 50
PEAK_LR, WEIGHT_DECAY = 3e-3, 1e-2


def make_net():
    return nn.Sequential(
        nn.Unfold(kernel_size=4, stride=2),            # 49 patches of 16 pixels
        Transpose(), nn.Linear(16, 16), nn.GELU(),     # the same small layer on each patch
        nn.Flatten(), nn.Linear(49 * 16, 64), nn.GELU(), nn.Linear(64, 10),
    )


class Transpose(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def load(count, seed, moments=None):
    images, labels = draw_digits(count, seed=seed)
    images = images.float()
    moments = moments or (images.mean(), images.std())
    return (images - moments[0]) / moments[1], labels, moments


def member_loss(skeleton, params, buffers, x, y):
    return nn.functional.cross_entropy(functional_call(skeleton, (params, buffers), (x,)), y)


def ensemble_logits(skeleton, params, buffers, x):
    return vmap(lambda p, b: functional_call(skeleton, (p, b), (x,)))(params, buffers)


@torch.no_grad()
def report(skeleton, params, buffers, x, y):
    logits = ensemble_logits(skeleton, params, buffers, x)  # member x sample x class
    single = (logits.argmax(-1) == y).float().mean(-1)
    together = logits.softmax(-1).mean(0)
    nll = nn.functional.nll_loss(together.log(), y)
    return single, (together.argmax(-1) == y).float().mean().item(), nll.item()


def main():
    torch.manual_seed(4)
    x, y, moments = load(4000, seed=50)
    x_val, y_val, _ = load(400, seed=51, moments=moments)
    x_test, y_test, _ = load(500, seed=52, moments=moments)

    nets = [make_net() for _ in range(MEMBERS)]
    params, buffers = stack_module_state(nets)
    params = {name: p.detach().requires_grad_() for name, p in params.items()}
    skeleton = make_net().to("meta")  # only its forward is used
    step = vmap(grad_and_value(partial(member_loss, skeleton)), in_dims=(0, 0, 0, 0))

    optimizer = torch.optim.AdamW(params.values(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK_LR, total_steps=EPOCHS * steps, pct_start=0.15)
    for epoch in range(1, EPOCHS + 1):
        orders = torch.stack([torch.randperm(len(x)) for _ in range(MEMBERS)])
        running = torch.zeros(MEMBERS)
        for k in range(steps):
            rows = orders[:, k * BATCH : (k + 1) * BATCH]
            grads, losses = step(tree_map(torch.Tensor.detach, params), buffers, x[rows], y[rows])
            for name, p in params.items():
                p.grad = grads[name]
            optimizer.step()
            schedule.step()
            running += losses
        if epoch % 2 == 0:
            single, acc, nll = report(skeleton, params, buffers, x_val, y_val)
            losses = " ".join(f"{v:.3f}" for v in (running / steps).tolist())
            print(f"epoch {epoch:2d}  train loss of members {losses}  val acc {acc:.3f}  val nll {nll:.3f}")

    single, acc, nll = report(skeleton, params, buffers, x_test, y_test)
    print("test accuracy of members:", " ".join(f"{v:.3f}" for v in single.tolist()))
    print(f"test accuracy of the ensemble: {acc:.3f}  nll {nll:.3f}")


if __name__ == "__main__":
    main()
