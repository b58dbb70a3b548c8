"""Embeddings of digits by a triplet loss over all triplets of a batch; retrieval is measured by recall at 1."""

import copy
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from toydata import draw_digits

opt = SimpleNamespace(
    classes_per_batch=8,
    samples_per_class=6,
    batches_per_epoch=25,
    epochs=8,
    margin=0.3,
    dim=32,
    lr=1e-3,
    sigma=25,
    seed=1,
)


def standardize(x):
    return (x - 0.17) / 0.3


class NoisyDigits(Dataset):
    """Images from 0 to 1, with a little noise that is new each time."""

    def __init__(self, images, labels, sigma):
        self.images, self.labels, self.sigma = images, labels, sigma

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        image = image + self.sigma / 255 * torch.randn_like(image)
        return standardize(image), self.labels[index]


class PKSampler(Sampler):
    """Batches of P classes with K samples each."""

    def __init__(self, labels, p, k, batches):
        self.by_class = [(labels == c).nonzero().flatten() for c in labels.unique()]
        self.p, self.k, self.batches = p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in torch.randperm(len(self.by_class))[: self.p].tolist():
                members = self.by_class[c]
                batch += members[torch.randperm(len(members))[: self.k]].tolist()
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, dim)
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.fc1(x.flatten(1)))
        return F.normalize(self.fc2(x), dim=1)


def triplet_loss(embeddings, labels, margin):
    distances = 2 - 2 * embeddings @ embeddings.t()
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool)
    valid = (same & ~itself)[:, :, None] & (~same)[:, None, :]
    to_positive, to_negative = distances[:, :, None], distances[:, None, :]
    losses = F.relu(to_positive - to_negative + margin)[valid]
    return losses.sum() / (losses > 1e-6).sum().clamp(min=1)


@torch.no_grad()
def embed(model, images):
    model.eval()
    return torch.cat([model(standardize(chunk)) for chunk in images.split(200)])


def recall_at_1(model, queries, query_labels, gallery, gallery_labels):
    similarity = embed(model, queries) @ embed(model, gallery).t()
    nearest = similarity.argmax(dim=1)
    return (gallery_labels[nearest] == query_labels).float().mean().item()


def main():
    torch.manual_seed(opt.seed)
    images, labels = draw_digits(1700, seed=opt.seed)
    images = images.float() / 255
    sizes = [1000, 200, 250, 250]
    train_x, gallery_x, val_x, test_x = images.split(sizes)
    train_y, gallery_y, val_y, test_y = labels.split(sizes)

    sampler = PKSampler(train_y, opt.classes_per_batch, opt.samples_per_class, opt.batches_per_epoch)
    loader = DataLoader(NoisyDigits(train_x, train_y, opt.sigma), batch_sampler=sampler)
    model = EmbeddingNet(opt.dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=opt.lr)
    best, best_weights = -1.0, None

    for epoch in range(1, opt.epochs + 1):
        model.train()
        running = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = triplet_loss(model(x), y, opt.margin)
            loss.backward()
            optimizer.step()
            running += loss.item()
        recall = recall_at_1(model, val_x, val_y, gallery_x, gallery_y)
        print(f"[{epoch:2d}] loss {running / len(loader):.4f}  recall@1 {recall:.3f}")
        if recall > best:
            best, best_weights = recall, copy.deepcopy(model.state_dict())

    model.load_state_dict(best_weights)
    print(f"test recall@1 {recall_at_1(model, test_x, test_y, gallery_x, gallery_y):.3f}")


if __name__ == "__main__":
    main()
