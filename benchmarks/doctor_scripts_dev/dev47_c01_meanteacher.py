"""Mean teacher (Tarvainen & Valpola) with 300 labels of 1200.

    python dev47_c01_meanteacher.py --epochs 16 --labels 300
"""
import argparse
import copy
import itertools

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Digits

NO_LABEL = -1
MEAN, STD = 0.17, 0.31


class TransformTwice:
    def __init__(self, transform):
        self.transform = transform

    def __call__(self, inp):
        return self.transform(inp), self.transform(inp)


def jitter(image):
    image = image.float() / 255
    dy, dx = np.random.randint(-1, 2, size=2)
    image = torch.roll(image, (int(dy), int(dx)), (1, 2))
    return (image + 0.05 * torch.randn_like(image) - MEAN) / STD


def plain(image):
    return (image.float() / 255 - MEAN) / STD


class TwoStreamBatchSampler(Sampler):
    """An epoch is one pass through the primary (unlabeled) indices; the others come round as often as needed."""

    def __init__(self, primary, secondary, primary_size, secondary_size):
        self.primary, self.secondary = primary, secondary
        self.primary_size, self.secondary_size = primary_size, secondary_size

    def __iter__(self):
        endless = itertools.chain.from_iterable(
            np.random.permutation(self.secondary).tolist() for _ in itertools.count()
        )
        once = np.random.permutation(self.primary).tolist()
        for i in range(len(self)):
            first = once[i * self.primary_size : (i + 1) * self.primary_size]
            yield list(itertools.islice(endless, self.secondary_size)) + first

    def __len__(self):
        return len(self.primary) // self.primary_size


def create_model():
    def block(cin, cout):
        return [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1)]

    return nn.Sequential(
        *block(1, 16), nn.MaxPool2d(2),
        *block(16, 32), nn.MaxPool2d(2), nn.Dropout2d(0.1),
        *block(32, 64), nn.Flatten(),
        nn.Linear(64 * 4 * 4, 10),
    )


def update_ema_variables(model, ema_model, alpha, global_step):
    # the true average until the exponential one is more exact
    alpha = min(1 - 1 / (global_step + 1), alpha)
    with torch.no_grad():
        for ema_param, param in zip(ema_model.parameters(), model.parameters()):
            ema_param.mul_(alpha).add_(param, alpha=1 - alpha)


def sigmoid_rampup(current, length):
    phase = 1.0 - min(max(current / length, 0.0), 1.0)
    return float(np.exp(-5.0 * phase * phase))


@torch.no_grad()
def validate(loader, model):
    was_training = model.training
    model.eval()
    right = sum((model(x).argmax(1) == y).sum() for x, y in loader)
    model.train(was_training)
    return 100.0 * float(right) / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=16, type=int)
    parser.add_argument("--labels", default=300, type=int)
    parser.add_argument("--lr", default=3e-3, type=float)
    parser.add_argument("--ema-decay", default=0.97, type=float)
    parser.add_argument("--consistency", default=2.0, type=float)
    parser.add_argument("--consistency-rampup", default=6, type=int)
    args = parser.parse_args()

    np.random.seed(1)
    torch.manual_seed(1)

    train_set = Digits(train=True, transform=TransformTwice(jitter))
    eval_set = Digits(train=False, transform=plain)
    order = np.random.permutation(len(train_set))
    labeled_idxs, unlabeled_idxs = order[: args.labels], order[args.labels :]
    train_set.targets[torch.from_numpy(unlabeled_idxs)] = NO_LABEL

    batch_sampler = TwoStreamBatchSampler(unlabeled_idxs, labeled_idxs, 64, 32)
    train_loader = DataLoader(train_set, batch_sampler=batch_sampler)
    eval_loader = DataLoader(eval_set, batch_size=100)

    model = create_model()
    ema_model = copy.deepcopy(model)
    for param in ema_model.parameters():
        param.requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), args.lr)

    global_step = 0
    for epoch in range(args.epochs):
        # the teacher too normalizes by its batches while training, and so measures its own statistics
        model.train()
        ema_model.train()
        weight = args.consistency * sigmoid_rampup(epoch, args.consistency_rampup)
        class_total, consistency_total = torch.zeros(()), torch.zeros(())
        for (view, ema_view), target in train_loader:
            logits = model(view)
            with torch.no_grad():
                ema_logits = ema_model(ema_view)
            class_loss = F.cross_entropy(logits, target, ignore_index=NO_LABEL)
            consistency_loss = F.mse_loss(logits.softmax(1), ema_logits.softmax(1), reduction="sum") / len(view)
            loss = class_loss + weight * consistency_loss

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            global_step += 1
            update_ema_variables(model, ema_model, args.ema_decay, global_step)
            class_total += class_loss.detach()
            consistency_total += consistency_loss.detach()
        steps = len(train_loader)
        print(f"epoch {epoch:2d}  class {class_total / steps:.4f}  consistency {consistency_total / steps:.4f}  "
              f"student {validate(eval_loader, model):.1f} %  teacher {validate(eval_loader, ema_model):.1f} %")


if __name__ == "__main__":
    main()
