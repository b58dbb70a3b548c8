# SimCLR on a torus: contrastive pretraining of colored shapes, read out with a linear probe.
# Images are rolled around both axes at random, and convolutions are circular to go with it.
import math

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from toydata import Shapes

SEED, BATCH, EPOCHS, PROBE_EVERY = 3, 128, 30, 10
LR, WEIGHT_DECAY, TEMPERATURE, WARMUP = 3e-3, 1e-4, 0.2, 20


def roll_each(images, down, right):
    """Roll every image of a batch by its own amount."""
    n, c, h, w = images.shape
    rows = (torch.arange(h) + down[:, None]) % h
    columns = (torch.arange(w) + right[:, None]) % w
    sample = torch.arange(n)[:, None, None, None]
    channel = torch.arange(c)[None, :, None, None]
    return images[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def coin(n):
    return torch.rand(n, 1, 1, 1) < 0.5


def augment(images):
    n, _, h, w = images.shape
    images = roll_each(images, torch.randint(0, h, (n,)), torch.randint(0, w, (n,)))
    images = torch.where(coin(n), images.flip(3), images)
    images = torch.where(coin(n), images.flip(2), images)
    images = torch.where(coin(n), images.transpose(2, 3), images)
    images = images * (0.9 + 0.2 * torch.rand(n, 1, 1, 1))
    return images + 0.03 * torch.randn_like(images)


def block(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, padding_mode="circular", bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Encoder(nn.Module):
    width = 64

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(block(3, 24, 1), block(24, 48, 2), block(48, 64, 2), block(64, self.width, 1))

    def forward(self, images):
        return self.body(images).mean(dim=(2, 3))


def contrastive_loss(first, second, temperature):
    """NT-Xent: each view has to find the other view of its image among all views of the batch."""
    n = len(first)
    views = F.normalize(torch.cat([first, second]), dim=1)
    similarity = views @ views.T / temperature
    partner = torch.arange(2 * n).roll(n)
    positive = similarity[torch.arange(2 * n), partner]
    left_out = torch.eye(2 * n, dtype=torch.bool)
    everything = similarity.masked_fill(left_out, -math.inf).logsumexp(dim=1)
    return (everything - positive).mean()


@torch.no_grad()
def features(encoder, images):
    encoder.eval()
    return torch.cat([encoder(chunk) for chunk in images.split(256)]).numpy()


def linear_probe(encoder, train_images, train_names, test_images, test_names):
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(features(encoder, train_images), train_names)
    return probe.score(features(encoder, test_images), test_names)


def main():
    torch.manual_seed(SEED)
    train, test = Shapes(train=True), Shapes(train=False)
    train_images, test_images = torch.stack(train.images), torch.stack(test.images)
    mean = train_images.mean(dim=(0, 2, 3), keepdim=True)
    std = train_images.std(dim=(0, 2, 3), keepdim=True)

    encoder = Encoder()
    projector = nn.Sequential(nn.Linear(encoder.width, 64), nn.ReLU(), nn.Linear(64, 32))
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=WEIGHT_DECAY)
    steps_per_epoch = len(train_images) // BATCH
    total = EPOCHS * steps_per_epoch

    def rate(step):
        if step < WARMUP:
            return (step + 1) / WARMUP
        return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (total - WARMUP)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    probe_data = ((train_images - mean) / std, train.targets, (test_images - mean) / std, test.targets)
    print(f"probe of random features: {linear_probe(encoder, *probe_data):.3f}")

    for epoch in range(1, EPOCHS + 1):
        encoder.train()
        projector.train()
        running = 0.0
        for chosen in torch.randperm(len(train_images))[: steps_per_epoch * BATCH].split(BATCH):
            images = train_images[chosen]
            both = torch.cat([augment(images), augment(images)])
            first, second = projector(encoder((both - mean) / std)).chunk(2)
            loss = contrastive_loss(first, second, TEMPERATURE)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        line = f"epoch {epoch:2d}  contrastive loss {running / steps_per_epoch:.3f}"
        if epoch % PROBE_EVERY == 0:
            line += f"  linear probe {linear_probe(encoder, *probe_data):.3f}"
        print(line)


if __name__ == "__main__":
    main()
