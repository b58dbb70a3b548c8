"""FixMatch on colored shapes: few labels, pseudo labels of weakly augmented images for strongly augmented ones."""
import argparse
import itertools
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import Shapes


def normalize(image):
    return (image - 0.5) / 0.25


def weak(image):
    if torch.rand(()) < 0.5:
        image = image.flip(-1)
    padded = F.pad(image[None], (1, 1, 1, 1), mode="replicate")[0]
    top, left = torch.randint(0, 3, (2,)).tolist()
    return padded[:, top : top + image.shape[1], left : left + image.shape[2]]


def strong(image):
    image = weak(image).clone()
    image = (image - 0.5) * (0.7 + 0.6 * torch.rand(())) + 0.5 + 0.1 * (torch.rand(()) - 0.5)
    top, left = torch.randint(0, image.shape[1] - 2, (2,)).tolist()
    image[:, top : top + 3, left : left + 3] = 0.5
    return image


class TransformFixMatch:
    def __call__(self, image):
        return normalize(weak(image)), normalize(strong(image))


class Transformed(Dataset):
    def __init__(self, dataset, transform):
        self.dataset, self.transform = dataset, transform

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, target = self.dataset[index]
        return self.transform(image), target


def x_u_split(targets, per_class, rng):
    """Indices of the labeled images, as many of each class, and of the unlabeled ones."""
    targets = np.array(targets)
    labeled_idx = np.concatenate(
        [rng.choice(np.where(targets == c)[0], per_class, replace=False) for c in np.unique(targets)]
    )
    unlabeled_idx = np.setdiff1d(np.arange(len(targets)), labeled_idx)
    return labeled_idx, unlabeled_idx


def build_model(classes=6, width=16):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.GroupNorm(4, 2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * 16, 64), nn.ReLU(), nn.Linear(64, classes),
    )  # fmt: skip


def get_cosine_schedule(optimizer, num_training_steps, num_cycles=7.0 / 16.0):
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: max(0.0, math.cos(math.pi * num_cycles * step / num_training_steps))
    )


@torch.no_grad()
def test(model, loader):
    model.eval()
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="FixMatch")
    parser.add_argument("--num-labeled", type=int, default=30, help="of each class")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--eval-step", type=int, default=25, help="steps of an epoch")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--mu", type=int, default=2, help="unlabeled images for each labeled one")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    base, test_base = Shapes(train=True), Shapes(train=False)
    labeled_idx, unlabeled_idx = x_u_split(base.targets, args.num_labeled, np.random.default_rng(args.seed))
    labeled = Transformed(Subset(base, labeled_idx.tolist()), lambda image: normalize(weak(image)))
    unlabeled = Transformed(Subset(base, unlabeled_idx.tolist()), TransformFixMatch())
    labeled_loader = DataLoader(labeled, args.batch_size, shuffle=True, drop_last=True)
    unlabeled_loader = DataLoader(unlabeled, args.batch_size * args.mu, shuffle=True, drop_last=True)
    test_loader = DataLoader(Transformed(test_base, normalize), 120)

    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=5e-4)
    scheduler = get_cosine_schedule(optimizer, args.epochs * args.eval_step)

    def forever(loader):
        for _ in itertools.count():
            yield from loader

    labeled_iter, unlabeled_iter = forever(labeled_loader), forever(unlabeled_loader)
    for epoch in range(args.epochs):
        model.train()
        sums = torch.zeros(3)
        for _ in range(args.eval_step):
            inputs_x, targets_x = next(labeled_iter)
            (inputs_u_w, inputs_u_s), _ = next(unlabeled_iter)
            logits = model(torch.cat([inputs_x, inputs_u_w, inputs_u_s]))
            logits_x = logits[: len(inputs_x)]
            logits_u_w, logits_u_s = logits[len(inputs_x) :].chunk(2)

            loss_x = F.cross_entropy(logits_x, targets_x)
            max_probs, targets_u = logits_u_w.detach().softmax(dim=-1).max(dim=-1)
            mask = max_probs.ge(args.threshold).float()
            loss_u = (F.cross_entropy(logits_u_s, targets_u, reduction="none") * mask).mean()
            loss = loss_x + args.lambda_u * loss_u

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            sums += torch.stack([loss_x.detach(), loss_u.detach(), mask.mean()])
        loss_x, loss_u, used = (sums / args.eval_step).tolist()
        print(f"{epoch + 1}: loss_x {loss_x:.3f} loss_u {loss_u:.3f} mask {used:.2f} test {test(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
