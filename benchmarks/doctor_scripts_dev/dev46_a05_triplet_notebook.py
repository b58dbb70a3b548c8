# %% [markdown]
# # Finding similar digits with a triplet loss
# We learn an embedding in which images of the same digit are close, then search a gallery.

# %%
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

torch.manual_seed(0)
rng = np.random.default_rng(0)

EMBED = 32
MARGIN = 0.3
EPOCHS = 10
BATCH = 48

# %%
# 1500 images, of which the last 500 are kept away for the search (250 queries in a gallery of 250)
pixels, digits = draw_digits(1500, seed=5)
pixels = pixels.float() / 255
print(pixels.shape, digits.bincount())

order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(1))
pixels = pixels[order]
digits = digits[order]

x_train, y_train = pixels[:1000], digits[:1000]
x_query, y_query = pixels[1000:1250], digits[1000:1250]
x_gallery, y_gallery = pixels[1250:], digits[1250:]

mean, std = x_train.mean(), x_train.std()
x_train = (x_train - mean) / std
x_query = (x_query - mean) / std
x_gallery = (x_gallery - mean) / std


# %%
class Triplets(Dataset):
    """Anchor, another image of the same digit, and an image of another one."""

    def __init__(self, x, y):
        self.x, self.y = x, y.numpy()
        self.members = {c: np.flatnonzero(self.y == c) for c in np.unique(self.y)}
        self.others = {c: np.flatnonzero(self.y != c) for c in np.unique(self.y)}

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        c = self.y[i]
        same = i
        while same == i:
            same = int(rng.choice(self.members[c]))
        different = int(rng.choice(self.others[c]))
        return self.jitter(self.x[i]), self.jitter(self.x[same]), self.jitter(self.x[different])

    def jitter(self, image):
        dy, dx = rng.integers(-1, 2, size=2)
        image = torch.roll(image, (int(dy), int(dx)), dims=(1, 2))
        return image + 0.1 * torch.randn_like(image)


loader = DataLoader(Triplets(x_train, y_train), batch_size=BATCH, shuffle=True, drop_last=True)


# %%
class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.drop = nn.Dropout(0.1)
        self.fc1 = nn.Linear(48 * 16, 96)
        self.fc2 = nn.Linear(96, EMBED)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x))
        x = self.drop(x.flatten(1))
        x = self.fc2(F.relu(self.fc1(x)))
        return F.normalize(x, dim=1)


def triplet_loss(anchor, positive, negative):
    d_pos = (anchor - positive).pow(2).sum(1)
    d_neg = (anchor - negative).pow(2).sum(1)
    return F.relu(d_pos - d_neg + MARGIN).mean()


@torch.no_grad()
def search(net, k=5):
    net.eval()
    similarity = net(x_query) @ net(x_gallery).T
    nearest = similarity.topk(k, dim=1).indices
    hits = y_gallery[nearest] == y_query[:, None]
    return hits[:, 0].float().mean().item(), hits.float().mean().item()


# %%
net = EmbeddingNet()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
print("before training: recall@1 %.3f, precision@5 %.3f" % search(net))

history = []
for epoch in range(EPOCHS):
    net.train()
    losses = []
    for a, p, n in loader:
        optimizer.zero_grad()
        za, zp, zn = net(torch.cat([a, p, n])).chunk(3)
        loss = triplet_loss(za, zp, zn)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    recall, precision = search(net)
    history.append((np.mean(losses), recall, precision))
    print(f"epoch {epoch + 1:2d}  loss {np.mean(losses):.4f}  recall@1 {recall:.3f}  precision@5 {precision:.3f}")

# %%
# Which digits are mistaken for which?
with torch.no_grad():
    net.eval()
    found = y_gallery[(net(x_query) @ net(x_gallery).T).argmax(dim=1)]
confusion = torch.zeros(10, 10, dtype=torch.long)
for truth, guess in zip(y_query.tolist(), found.tolist()):
    confusion[truth, guess] += 1
print(confusion)
print("final recall@1:", history[-1][1])
