# Homework 3, problem 2: an optimizer that asks for the gradient a little further up the hill.
import copy

import torch
from torch import nn
import torch.nn.functional as F

import toydata

SEED = 7
EPOCHS = 10
BATCH = 50


class ProbeSGD(torch.optim.Optimizer):
    """Goes up by rho along the gradient, takes the gradient there, returns, and goes down with that."""

    def __init__(self, params, lr, rho=0.05, momentum=0.9, weight_decay=1e-4):
        super().__init__(params, dict(lr=lr, rho=rho, momentum=momentum, weight_decay=weight_decay))

    def each(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    yield group, p

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure(True)

        norm = torch.stack([p.grad.norm() for _, p in self.each()]).norm()
        for group, p in self.each():
            offset = p.grad * (group["rho"] / (norm + 1e-12))
            p.add_(offset)
            self.state[p]["offset"] = offset

        with torch.enable_grad():
            closure(False)

        for group, p in self.each():
            p.sub_(self.state[p].pop("offset"))
            direction = p.grad
            direction = direction.add(p, alpha=group["weight_decay"])
            if "velocity" not in self.state[p]:
                self.state[p]["velocity"] = torch.zeros_like(p)
            velocity = self.state[p]["velocity"]
            velocity.mul_(group["momentum"]).add_(direction)
            p.add_(velocity, alpha=-group["lr"])
        return loss


def make_net():
    def block(cin, cout):
        return [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]

    return nn.Sequential(
        *block(1, 12), nn.MaxPool2d(2),
        *block(12, 24), nn.MaxPool2d(2),
        *block(24, 48),
        nn.Flatten(), nn.Linear(48 * 16, 10),
    )


def shifted(x):
    """Each image moved by up to one pixel."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    out = torch.empty_like(x)
    offsets = torch.randint(0, 3, (len(x), 2)).tolist()
    for i, (top, left) in enumerate(offsets):
        out[i] = padded[i, :, top : top + 16, left : left + 16]
    return out


@torch.no_grad()
def score(net, x, y):
    net.eval()
    logits = net(x)
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def main():
    torch.manual_seed(SEED)
    images, labels = toydata.draw_digits(1500, seed=3)
    order = torch.randperm(len(images))
    images, labels = images[order].float() / 255, labels[order]
    x_train, y_train = images[:1000], labels[:1000]
    x_val, y_val = images[1000:1200], labels[1000:1200]
    x_test, y_test = images[1200:], labels[1200:]
    mean, std = x_train.mean(), x_train.std()
    x_train, x_val, x_test = [(x - mean) / std for x in (x_train, x_val, x_test)]

    net = make_net()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    optimizer = ProbeSGD(net.parameters(), lr=0.03)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 9], gamma=0.2)

    best, best_state = float("inf"), None
    for epoch in range(EPOCHS):
        net.train()
        total = 0.0
        for index in torch.randperm(len(x_train)).split(BATCH):
            xb, yb = shifted(x_train[index]), y_train[index]

            def closure(first):
                # running statistics belong to the weights that stay, not to those of the probe
                for m in norms:
                    m.momentum = 0.1 if first else 0.0
                optimizer.zero_grad()
                loss = F.cross_entropy(net(xb), yb)
                loss.backward()
                return loss

            total += optimizer.step(closure).detach() * len(index)
        scheduler.step()
        val_loss, val_acc = score(net, x_val, y_val)
        print(f"epoch {epoch + 1}: train {total / len(x_train):.4f}  val {val_loss:.4f}  accuracy {val_acc:.3f}")
        if val_loss < best:
            best, best_state = val_loss, copy.deepcopy(net.state_dict())

    net.load_state_dict(best_state)
    print("test: loss %.4f, accuracy %.3f" % score(net, x_test, y_test))


if __name__ == "__main__":
    main()
