"""Tabular classes with a Keras-like fit over pure functions: functional_call, torch.func.grad, an activation with its own backward."""
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad_and_value

CATEGORIES = 5


class SquarePlus(torch.autograd.Function):
    """(x + sqrt(x^2 + 4)) / 2: a smooth ReLU; the slope needs the output only by way of the root."""

    @staticmethod
    def forward(x):
        root = torch.sqrt(x * x + 4)
        return (x + root) / 2, root

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, upstream, _):
        x, root = ctx.saved_tensors
        return upstream * (1 + x / root) / 2


class TabularNet(nn.Module):
    def __init__(self, numeric, hidden=64, classes=3):
        super().__init__()
        self.embedding = nn.Embedding(CATEGORIES, 4)
        self.layer1, self.layer2 = nn.Linear(numeric + 4, hidden), nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, numbers, category):
        x = torch.cat([numbers, self.embedding(category)], 1)
        x = SquarePlus.apply(self.layer1(x))[0]
        x = x + SquarePlus.apply(self.layer2(self.norm(x)))[0]
        return self.out(x)


def customers(count, seed):
    """Three kinds of customers by income, age, visits and region; the numbers have very different sizes."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 6, generator=g)
    category = torch.randint(0, CATEGORIES, (count,), generator=g)
    offset = torch.tensor([-1.2, -0.4, 0.0, 0.6, 1.2])[category]
    score = 1.2 * z[:, 0] - z[:, 1] + 0.8 * z[:, 2] * z[:, 3] + offset + 0.15 * torch.randn(count, generator=g)
    label = torch.bucketize(score, torch.tensor([-0.8, 0.8]))
    sizes = torch.tensor([18000.0, 12.0, 3.0, 0.2, 400.0, 1.0])
    return z * sizes + torch.tensor([52000.0, 41.0, 9.0, 0.5, 1500.0, 0.0]), category, label


class AdamW:
    """Adam with decoupled decay as a pure function of parameters, gradients and state."""

    def __init__(self, learning_rate, weight_decay=0.01, betas=(0.9, 0.99), epsilon=1e-8):
        self.learning_rate, self.weight_decay, self.betas, self.epsilon = learning_rate, weight_decay, betas, epsilon

    def init(self, params):
        return {k: (torch.zeros_like(p), torch.zeros_like(p)) for k, p in params.items()}, 0

    def apply(self, params, grads, state):
        moments, t = state
        t += 1
        b1, b2 = self.betas
        rate = self.learning_rate(t)
        new_params, new_moments = {}, {}
        for k, p in params.items():
            m = b1 * moments[k][0] + (1 - b1) * grads[k]
            v = b2 * moments[k][1] + (1 - b2) * grads[k] ** 2
            update = (m / (1 - b1 ** t)) / ((v / (1 - b2 ** t)).sqrt() + self.epsilon)
            decay = self.weight_decay if p.ndim > 1 else 0.0
            new_params[k], new_moments[k] = p - rate * (update + decay * p), (m, v)
        return new_params, (new_moments, t)


class Model:
    def __init__(self, module):
        self.module = module
        self.params = {k: p.detach().clone() for k, p in module.named_parameters()}

    def compile(self, optimizer, loss):
        self.optimizer = optimizer
        self.state = optimizer.init(self.params)
        self.objective = grad_and_value(lambda params, x, y: loss(functional_call(self.module, params, x), y))

    def fit(self, x, y, batch_size, epochs, validation_data):
        history = []
        for epoch in range(epochs):
            total = 0.0
            for index in torch.randperm(len(y)).split(batch_size):
                grads, value = self.objective(self.params, tuple(part[index] for part in x), y[index])
                self.params, self.state = self.optimizer.apply(self.params, grads, self.state)
                total += value * len(index)
            val_loss, val_accuracy = self.evaluate(*validation_data)
            history.append({"loss": float(total) / len(y), "val_loss": val_loss, "val_accuracy": val_accuracy})
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in history[-1].items()))
        return history

    @torch.no_grad()
    def evaluate(self, x, y):
        logits = functional_call(self.module, self.params, x)
        return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def main():
    torch.manual_seed(0)
    numbers, category, label = customers(3000, 0)
    val_numbers, val_category, val_label = customers(800, 1)
    mean, std = numbers.mean(0), numbers.std(0)
    epochs, batch_size = 15, 100
    total = epochs * math.ceil(len(label) / batch_size)
    model = Model(TabularNet(numbers.shape[1]))
    model.compile(AdamW(lambda t: 5e-3 * 0.5 * (1 + math.cos(math.pi * (t - 1) / total))), F.cross_entropy)
    history = model.fit(((numbers - mean) / std, category), label, batch_size, epochs,
                        validation_data=(((val_numbers - mean) / std, val_category), val_label))
    print(f"best accuracy {max(h['val_accuracy'] for h in history):.4f}")


if __name__ == "__main__":
    main()
