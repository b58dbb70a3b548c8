"""Where and how fast does it move? Two tasks on short clips, written as pure functions of a train state, JAX style."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

CONFIG = {
    "frames": 6, "size": 16, "train": 960, "val": 200, "batch": 32, "eval_batch": 64, "epochs": 10,
    "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "clip": 1.0, "ema": 0.95, "seed": 11,
}
STEPS = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])  # left, right, up, down


class Clips(NamedTuple):
    video: torch.Tensor
    direction: torch.Tensor
    speed: torch.Tensor


class TrainState(NamedTuple):
    params: dict
    log_vars: torch.Tensor
    ema: dict
    step: int


def make_clips(count, seed):
    """A soft spot that wanders over a torus: clips of count x frames x size x size."""
    generator = torch.Generator().manual_seed(seed)
    size, frames = CONFIG["size"], CONFIG["frames"]
    direction = torch.randint(0, 4, (count,), generator=generator)
    speed = 0.5 + torch.rand(count, generator=generator)
    start = size * torch.rand(count, 2, generator=generator)
    grid = torch.arange(size).float()

    def render(t):
        x, y = (start + t * speed[:, None] * STEPS[direction]).unbind(1)
        dx = (grid - x[:, None] + size / 2).remainder(size) - size / 2
        dy = (grid - y[:, None] + size / 2).remainder(size) - size / 2
        return torch.exp(-(dx[:, None, :] ** 2 + dy[:, :, None] ** 2) / 4.0)

    rendered = torch.stack([render(t) for t in range(frames)])
    video = rendered.permute(1, 0, 2, 3)
    video = video + 0.05 * torch.randn(video.shape, generator=generator)
    return Clips((video - 0.05) / 0.16, direction, (speed - 1.0) / 0.29)


def make_model():
    def stage(inputs, outputs, kernel, stride):
        return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.GroupNorm(8, outputs), nn.ReLU()]

    trunk = stage(CONFIG["frames"], 32, 5, 1) + stage(32, 48, 3, 2) + stage(48, 64, 3, 2)
    return nn.Sequential(*trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5))


def batches(clips, size, generator=None):
    count = len(clips.direction)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    for index in order.split(size):
        yield Clips(*(part[index] for part in clips))


def augment(batch, generator):
    """Mirror some clips, which exchanges left and right."""
    mirrored = torch.rand(len(batch.direction), generator=generator) < 0.5
    video = torch.where(mirrored[:, None, None, None], batch.video.flip(-1), batch.video)
    exchanged = torch.tensor([1, 0, 2, 3])[batch.direction]
    return batch._replace(video=video, direction=torch.where(mirrored, exchanged, batch.direction))


def apply(model, params, video):
    out = functional_call(model, params, (video,))
    return out[:, :4], out[:, 4:].squeeze(1)


def loss_fn(model, params, log_vars, batch):
    """Both losses, weighed by the learned log variances of Kendall, Gal and Cipolla."""
    logits, speed = apply(model, params, batch.video)
    losses = torch.stack([F.cross_entropy(logits, batch.direction), F.mse_loss(speed, batch.speed)])
    log_vars = log_vars.clamp(min=-2.0)
    return (torch.exp(-log_vars) * losses + log_vars).sum(), losses.detach()


def ema_update(ema, params, decay):
    return {name: decay * ema[name] + (1 - decay) * value.detach() for name, value in params.items()}


def make_train_step(model, optimizer, schedule):
    def train_step(state, batch):
        total, losses = loss_fn(model, state.params, state.log_vars, batch)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(state.params.values(), CONFIG["clip"])
        optimizer.step()
        schedule.step()
        ema = ema_update(state.ema, state.params, CONFIG["ema"])
        return state._replace(ema=ema, step=state.step + 1), losses

    return train_step


@torch.no_grad()
def evaluate(model, params, clips):
    correct, squared, seen = 0, 0.0, 0
    for batch in batches(clips, CONFIG["eval_batch"]):
        logits, speed = apply(model, params, batch.video)
        correct += (logits.argmax(1) == batch.direction).sum().item()
        squared += (speed - batch.speed).square().sum().item()
        seen += len(batch.direction)
    return {"accuracy": correct / seen, "mse": squared / seen}


def main():
    torch.manual_seed(CONFIG["seed"])
    train, val = make_clips(CONFIG["train"], seed=0), make_clips(CONFIG["val"], seed=1)
    model = make_model()
    params = dict(model.named_parameters())
    ema = {name: value.detach().clone() for name, value in params.items()}
    state = TrainState(params, torch.zeros(2, requires_grad=True), ema, step=0)
    groups = [
        {"params": list(params.values()), "weight_decay": CONFIG["weight_decay"]},
        {"params": [state.log_vars], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=CONFIG["lr"], momentum=CONFIG["momentum"])
    total_steps = CONFIG["epochs"] * -(-CONFIG["train"] // CONFIG["batch"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CONFIG["lr"], total_steps=total_steps, pct_start=0.15, cycle_momentum=False
    )
    train_step = make_train_step(model, optimizer, schedule)
    generator = torch.Generator().manual_seed(CONFIG["seed"])

    for epoch in range(CONFIG["epochs"]):
        history = []
        for batch in batches(train, CONFIG["batch"], generator):
            state, losses = train_step(state, augment(batch, generator))
            history.append(losses)
        direction, speed = torch.stack(history).mean(0).tolist()
        metrics = evaluate(model, state.ema, val)
        print(
            f"epoch {epoch + 1:2d} step {state.step:4d}  train direction {direction:.3f} speed {speed:.3f}"
            f"  val accuracy {metrics['accuracy']:.3f} mse {metrics['mse']:.3f}"
        )


if __name__ == "__main__":
    main()
