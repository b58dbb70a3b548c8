"""FixMatch: a few labeled digits, many without labels, weak and strong augmentation of batches."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits


def random_shift(x, reach):
    n, _, h, w = x.shape
    padded = F.pad(x, [reach] * 4, mode="replicate")
    rows = torch.randint(0, 2 * reach + 1, (n, 1)) + torch.arange(h)
    cols = torch.randint(0, 2 * reach + 1, (n, 1)) + torch.arange(w)
    picked = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], cols[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def weak(x):
    return random_shift(x, 1)


def strong(x, noise=0.4, hole=3):
    x = random_shift(x, 1)
    n, _, h, w = x.shape
    top, left = torch.randint(0, h - hole + 1, (n, 1, 1)), torch.randint(0, w - hole + 1, (n, 1, 1))
    rows, cols = torch.arange(h)[None, :, None], torch.arange(w)[None, None, :]
    inside = (rows >= top) & (rows < top + hole) & (cols >= left) & (cols < left + hole)
    x = x.masked_fill(inside[:, None], 0.0)
    return x + noise * torch.randn_like(x)


class SmallNet(nn.Sequential):
    def __init__(self, classes=10):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 16, 96),
            nn.ReLU(),
            nn.Linear(96, classes),
        )


def endless(*tensors, batch_size):
    """Batches of always new permutations."""
    while True:
        order = torch.randperm(len(tensors[0]))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            index = order[start : start + batch_size]
            yield tuple(t[index] for t in tensors)


def split_labeled(labels, per_class):
    index = torch.cat([torch.where(labels == c)[0][:per_class] for c in range(10)])
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[index] = False
    return index, torch.where(rest)[0]


def prepare(count, seed):
    images, labels = draw_digits(count, seed=seed)
    return (images.float() / 255 - 0.2) / 0.3, labels


def consistency_loss(weak_logits, strong_logits, threshold):
    probs = weak_logits.detach().softmax(dim=-1)
    confidence, pseudo = probs.max(dim=-1)
    mask = confidence.ge(threshold)
    loss = (F.cross_entropy(strong_logits, pseudo, reduction="none") * mask).mean()
    return loss, mask.float().mean()


@torch.no_grad()
def test(model, images, labels):
    model.eval()
    logits = torch.cat([model(chunk) for chunk in images.split(100)])
    return (logits.argmax(-1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--per-class", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--eval-step", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mu", type=int, default=2)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--lr", type=float, default=0.04)
    args = parser.parse_args()
    torch.manual_seed(2)

    images, labels = prepare(1400, seed=0)
    test_images, test_labels = prepare(300, seed=1)
    labeled, unlabeled = split_labeled(labels, args.per_class)
    labeled_batches = endless(images[labeled], labels[labeled], batch_size=args.batch_size)
    unlabeled_batches = endless(images[unlabeled], batch_size=args.mu * args.batch_size)

    model = SmallNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    total = args.epochs * args.eval_step
    cosine = lambda step: math.cos(7 / 16 * math.pi * min(step, total) / total)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine)
    for epoch in range(1, args.epochs + 1):
        model.train()
        sum_x = sum_u = sum_mask = 0.0
        for _ in range(args.eval_step):
            x, y = next(labeled_batches)
            (u,) = next(unlabeled_batches)
            inputs = torch.cat([weak(x), weak(u), strong(u)])
            logits_x, logits_w, logits_s = model(inputs).split([len(x), len(u), len(u)])
            loss_x = F.cross_entropy(logits_x, y)
            loss_u, used = consistency_loss(logits_w, logits_s, args.threshold)
            loss = loss_x + args.lambda_u * loss_u
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            sum_x, sum_u, sum_mask = sum_x + loss_x.item(), sum_u + loss_u.item(), sum_mask + used.item()
        accuracy = test(model, test_images, test_labels)
        n = args.eval_step
        print(f"epoch {epoch}: L_x {sum_x / n:.3f}  L_u {sum_u / n:.3f}  mask {sum_mask / n:.2f}  test {accuracy:.3f}")


if __name__ == "__main__":
    main()
