"""Contrastive pretraining (SimCLR) on unlabelled shapes, and a linear probe of what it found."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import toydata

TEMPERATURE = 0.2
PRETRAIN_EPOCHS = 15
PROBE_EPOCHS = 60


def random_view(image: Tensor) -> Tensor:
    """Shifted by up to three pixels, mirrored, a little brighter or darker, some noise."""
    padded = F.pad(image[None], (3, 3, 3, 3), value=0.5)[0]
    top, left = torch.randint(0, 7, (2,)).tolist()
    view = padded[:, top : top + 16, left : left + 16]
    if torch.rand(()) < 0.5:
        view = view.flip(-1)
    if torch.rand(()) < 0.5:
        view = view.flip(-2)
    view = view * (0.85 + 0.3 * torch.rand(()))
    return view + 0.03 * torch.randn(view.shape)


def standardize(image: Tensor) -> Tensor:
    return (image - 0.5) / 0.2


class TwoViews(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        return standardize(random_view(image)), standardize(random_view(image))


class Encoder(nn.Module):
    def __init__(self, width: int = 32, out: int = 96):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def contrastive_loss(first: Tensor, second: Tensor) -> Tensor:
    n = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)
    logits = z @ z.T / TEMPERATURE
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
    partner = torch.arange(2 * n).roll(n)
    return F.cross_entropy(logits, partner)


def pretrain(images) -> Encoder:
    encoder = Encoder()
    projector = nn.Sequential(nn.Linear(encoder.out, 96), nn.ReLU(), nn.Linear(96, 48))
    loader = DataLoader(TwoViews(images), batch_size=90, shuffle=True, drop_last=True)
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, PRETRAIN_EPOCHS * len(loader))
    for epoch in range(PRETRAIN_EPOCHS):
        encoder.train()
        projector.train()
        losses = []
        for one, two in loader:
            loss = contrastive_loss(projector(encoder(one)), projector(encoder(two)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        print(f"pretrain {epoch + 1:2d}: loss {sum(losses) / len(losses):.4f}")
    return encoder


@torch.no_grad()
def features(encoder, dataset):
    encoder.eval()
    images = torch.stack([standardize(image) for image in dataset.images])
    return encoder(images), torch.tensor(dataset.targets)


def probe(encoder, train_set, test_set):
    x, y = features(encoder, train_set)
    x_test, y_test = features(encoder, test_set)
    mean, std = x.mean(dim=0), x.std(dim=0) + 1e-3
    x, x_test = (x - mean) / std, (x_test - mean) / std
    linear = nn.Linear(encoder.out, 6)
    optimizer = torch.optim.Adam(linear.parameters(), lr=5e-3, weight_decay=1e-4)
    for _ in range(PROBE_EPOCHS):
        for index in torch.randperm(len(x)).split(150):
            loss = F.cross_entropy(linear(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (linear(x_test).argmax(dim=1) == y_test).float().mean().item()
    print(f"probe: train loss {loss.item():.4f}, test accuracy {accuracy:.3f}")


def main():
    torch.manual_seed(4)
    train_set, test_set = toydata.Shapes(train=True), toydata.Shapes(train=False)
    probe(pretrain(train_set.images), train_set, test_set)


if __name__ == "__main__":
    main()
