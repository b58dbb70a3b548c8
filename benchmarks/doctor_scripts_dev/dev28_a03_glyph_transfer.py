# %% [markdown]
# # From digits to letters
# 1. train a network on digits, of which there are plenty
# 2. keep its body, put a new head on it for twelve letters, train the head alone
# 3. unfreeze the body and fine-tune all of it gently

# %%
import os
import tempfile

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits

torch.manual_seed(0)
torch.set_num_threads(1)

LETTERS = {
    "A": "25755", "C": "74447", "E": "74647", "F": "74644", "H": "55755", "J": "11157",
    "L": "44447", "P": "75744", "T": "72222", "U": "55557", "X": "55255", "Y": "55222",
}


# %%
def draw_letters(per_letter, seed, size=16):
    generator = torch.Generator().manual_seed(seed)
    codes = list(LETTERS.values())
    labels = torch.arange(len(codes)).repeat(per_letter)
    images = torch.zeros(len(labels), 1, size, size)
    for i, label in enumerate(labels.tolist()):
        rows = torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in codes[label]]).float()
        glyph = rows.repeat_interleave(2, 0).repeat_interleave(2, 1)
        top, left = torch.randint(1, 6, (2,), generator=generator).tolist()
        left = left + 2
        ink = 0.6 + 0.4 * torch.rand((), generator=generator)
        images[i, 0, top : top + 10, left : left + 6] = glyph * ink
    images = images + 0.13 * torch.randn(images.shape, generator=generator)
    return (images.clamp(0, 1) * 255).to(torch.uint8), labels


def prepare(images):
    """Bytes to what the network wants: about zero mean and unit spread."""
    return (images.float() / 255 - 0.2) / 0.3


# %%
class Body(nn.Module):
    def __init__(self, features=64):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(),
            nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        )
        self.neck = nn.Linear(64 * 4 * 4, features)

    def forward(self, x):
        return F.relu(self.neck(self.convs(x).flatten(1)))


class DigitNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Body()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.body(x))


class LetterNet(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.encoder = body
        self.head = nn.Linear(64, len(LETTERS))

    def forward(self, x):
        return self.head(self.encoder(x))


# %%
def accuracy(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(1) == y).sum().item()
    return right / len(loader.dataset)


def fit(model, optimizer, train_loader, valid_loader, epochs, title):
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in train_loader:
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            x = torch.roll(x, (dy, dx), dims=(2, 3))
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        mean = total / len(train_loader.dataset)
        print(f"{title} {epoch + 1:2d}: loss {mean:.3f}  valid accuracy {accuracy(model, valid_loader):.3f}")


# %% Step 1: digits
digits, digits_test = Digits(train=True), Digits(train=False)
digit_loader = DataLoader(TensorDataset(prepare(digits.data), digits.targets), batch_size=40, shuffle=True)
digit_valid = DataLoader(TensorDataset(prepare(digits_test.data), digits_test.targets), batch_size=150)
source = DigitNet()
fit(source, torch.optim.Adam(source.parameters(), lr=1e-3), digit_loader, digit_valid, 10, "digits")
path = os.path.join(tempfile.mkdtemp(), "digits.pt")
torch.save(source.state_dict(), path)

# %% Letters: 400 to learn from, 200 to validate
letters, names = draw_letters(50, seed=3)
order = torch.randperm(len(letters), generator=torch.Generator().manual_seed(4))
valid_index, train_index = order[:200], order[200:]
train_x, train_y = letters[train_index].repeat(2, 1, 1, 1), names[train_index].repeat(2)
train_loader = DataLoader(TensorDataset(prepare(train_x), train_y), batch_size=25, shuffle=True)
valid_loader = DataLoader(TensorDataset(prepare(letters[valid_index]), names[valid_index]), batch_size=100)

# %% Step 2: the old body, a new head
checkpoint = torch.load(path)
body = Body()
weights = {key.removeprefix("body."): value for key, value in checkpoint.items() if key.startswith("body.")}
body.load_state_dict(weights)
model = LetterNet(body)
for parameter in model.encoder.parameters():
    parameter.requires_grad = False
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
fit(model, optimizer, train_loader, valid_loader, 7, "head")

# %% Step 3: all of it
for parameter in model.encoder.parameters():
    parameter.requires_grad_(True)
optimizer = torch.optim.Adam([
    {"params": model.encoder.parameters(), "lr": 2e-4},
    {"params": model.head.parameters(), "lr": 1e-3},
])
fit(model, optimizer, train_loader, valid_loader, 10, "all")
print("letters, final accuracy:", round(accuracy(model, valid_loader), 3))
