"""Semi-supervised digits with pseudo labels, after kekmodel/FixMatch-pytorch."""

import argparse
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits


class Net(nn.Module):
    def __init__(self, num_classes=10, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, 2 * width)
        self.fc = nn.Linear(2 * width * 16, 64)
        self.out = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.out(F.relu(self.fc(x.flatten(1))))


class ModelEMA:
    def __init__(self, model, decay):
        self.ema = copy.deepcopy(model).eval()
        self.decay, self.updates = decay, 0
        for p in self.ema.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_p, p in zip(self.ema.parameters(), model.parameters()):
            ema_p.mul_(decay).add_(p, alpha=1 - decay)


def weak(x):
    return x + 0.05 * torch.randn_like(x)


def strong(x):
    """A shift of up to one pixel, contrast and noise."""
    top, left = torch.randint(-1, 2, (2,)).tolist()
    x = torch.roll(x, (top, left), dims=(2, 3))
    contrast = 0.7 + 0.6 * torch.rand(len(x), 1, 1, 1)
    return x * contrast + 0.25 * torch.randn_like(x)


def prepare(images):
    return (images.float() / 255 - 0.17) / 0.3


def x_u_split(labels, num_labeled, num_classes=10):
    """As many labeled samples of each class; all others are unlabeled."""
    per_class = num_labeled // num_classes
    labeled = torch.cat([(labels == c).nonzero().flatten()[:per_class] for c in range(num_classes)])
    unlabeled = torch.ones(len(labels), dtype=torch.bool)
    unlabeled[labeled] = False
    return labeled, unlabeled.nonzero().flatten()


def endless(size, batch_size):
    """Indices of one shuffled epoch after another."""
    while True:
        yield from torch.randperm(size)[: size - size % batch_size].split(batch_size)


@torch.no_grad()
def test(model, images, labels):
    logits = torch.cat([model(part) for part in images.split(100)])
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def get_cosine_schedule(optimizer, total):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, math.cos(7 / 16 * math.pi * step / total)))


def train(args, model, labeled, unlabeled, val):
    (x_l, y_l), x_u = labeled, unlabeled
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=args.wdecay)
    scheduler = get_cosine_schedule(optimizer, args.epochs * args.eval_step)
    ema = ModelEMA(model, args.ema_decay)
    labeled_iter = endless(len(x_l), args.batch_size)
    unlabeled_iter = endless(len(x_u), args.batch_size * args.mu)
    for epoch in range(args.epochs):
        model.train()
        sum_x = sum_u = 0.0
        for _ in range(args.eval_step):
            i, j = next(labeled_iter), next(unlabeled_iter)
            inputs = torch.cat([weak(x_l[i]), weak(x_u[j]), strong(x_u[j])])
            logits = model(inputs)
            logits_x, logits_w, logits_s = logits.split([len(i), len(j), len(j)])
            loss_x = F.cross_entropy(logits_x, y_l[i])

            probs = torch.softmax(logits_w.detach(), dim=-1)
            max_probs, pseudo = probs.max(dim=-1)
            mask = max_probs.ge(args.threshold).float()
            loss_u = (F.cross_entropy(logits_s, pseudo, reduction="none") * mask).mean()

            loss = loss_x + args.lambda_u * loss_u
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(model)
            sum_x += loss_x.item()
            sum_u += loss_u.item()
        val_loss, val_acc = test(ema.ema, *val)
        n = args.eval_step
        print(f"epoch {epoch + 1}: loss_x {sum_x / n:.3f} loss_u {sum_u / n:.3f} val {val_loss:.3f} acc {val_acc:.3f}")


def main():
    parser = argparse.ArgumentParser(description="PyTorch FixMatch training")
    parser.add_argument("--num-labeled", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--eval-step", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--mu", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--wdecay", type=float, default=5e-4)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--ema-decay", type=float, default=0.97)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    images, labels = draw_digits(1400, seed=args.seed, shift=1)
    val_images, val_labels = draw_digits(300, seed=args.seed + 1, shift=1)
    images, val_images = prepare(images), prepare(val_images)
    labeled, unlabeled = x_u_split(labels, args.num_labeled)
    print(f"{len(labeled)} labeled, {len(unlabeled)} unlabeled")
    train(args, Net(), (images[labeled], labels[labeled]), images[unlabeled], (val_images, val_labels))


if __name__ == "__main__":
    main()
