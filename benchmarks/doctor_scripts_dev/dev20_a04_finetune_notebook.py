# %% [markdown]
# # From digits to letters
# A network is trained on 1500 digits, saved, and tuned to ten letters of which we have only 20 images each.

# %%
import os
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import FONT

torch.manual_seed(11)
torch.set_num_threads(1)

LETTERS = {
    "A": "25755", "C": "34443", "F": "74644", "H": "55755", "J": "11152",
    "L": "44447", "P": "65644", "T": "72222", "U": "55557", "X": "55255",
}  # fmt: skip


# %%
def draw(font, labels, generator):
    images = torch.zeros(len(labels), 1, 16, 16)
    for i, label in enumerate(labels.tolist()):
        rows = torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in font[label]]).float()
        top, left = torch.randint(1, 6, (1,), generator=generator), torch.randint(3, 8, (1,), generator=generator)
        ink = 0.7 + 0.3 * torch.rand((), generator=generator)
        images[i, 0, int(top) : int(top) + 10, int(left) : int(left) + 6] = ink * rows.repeat_interleave(
            2, 0
        ).repeat_interleave(2, 1)
    return (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def normalize(images):
    return (images - 0.2) / 0.3


def jitter(images):
    """Moves a batch by up to one pixel and adds a little noise."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    return images.roll((down, right), dims=(2, 3)) + 0.1 * torch.randn_like(images)


def make_encoder():
    layers, inputs = [], 1
    for outputs in (16, 32, 64):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten())


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.encoder = make_encoder()
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(64 * 2 * 2, classes)

    def forward(self, images):
        return self.fc(self.dropout(self.encoder(images)))


criterion = nn.CrossEntropyLoss()


def accuracy(net, loader):
    net.eval()
    right = total = 0
    with torch.no_grad():
        for images, labels in loader:
            right += (net(images).argmax(1) == labels).sum().item()
            total += labels.numel()
    return right / total


# %% Part one: digits
generator = torch.Generator().manual_seed(0)
digit_labels = torch.randint(0, 10, (1800,), generator=generator)
digits = normalize(draw(FONT, digit_labels, generator))
digit_train = DataLoader(TensorDataset(digits[:1500], digit_labels[:1500]), batch_size=50, shuffle=True)
digit_valid = DataLoader(TensorDataset(digits[1500:], digit_labels[1500:]), batch_size=100)

source = Net(classes=10)
optimizer = torch.optim.Adam(source.parameters(), lr=2e-3)
for epoch in range(12):
    source.train()
    for images, labels in digit_train:
        optimizer.zero_grad()
        loss = criterion(source(jitter(images)), labels)
        loss.backward()
        optimizer.step()
    print(f"digits epoch {epoch}: accuracy {accuracy(source, digit_valid):.3f}")

path = os.path.join(tempfile.mkdtemp(), "digits.pt")
torch.save(source.state_dict(), path)

# %% Part two: few letters, listed one letter after the other
letter_labels = torch.arange(10).repeat_interleave(60)
letters = normalize(draw(list(LETTERS.values()), letter_labels, generator))
order = torch.randperm(len(letters), generator=generator)
train_index, valid_index = order[:200], order[200:].sort().values
train_x, train_y = letters[train_index], letter_labels[train_index]
valid_x, valid_y = letters[valid_index], letter_labels[valid_index]
train_x, train_y = train_x.repeat(3, 1, 1, 1), train_y.repeat(3)  # each image three times an epoch, jittered each time
letter_train = DataLoader(TensorDataset(train_x, train_y), batch_size=30, shuffle=True)
letter_valid = DataLoader(TensorDataset(valid_x, valid_y), batch_size=20)

# %% Only the encoder is taken over
checkpoint = torch.load(path)
weights = {name.removeprefix("encoder."): tensor for name, tensor in checkpoint.items()}
net = Net(classes=26)
net.encoder.load_state_dict(weights, strict=False)  # fc.* is of no use here

# %% The new head first, the encoder later and slowly
for parameter in net.encoder.parameters():
    parameter.requires_grad = False
net.fc = nn.Linear(64 * 2 * 2, len(LETTERS))
optimizer = torch.optim.Adam(net.fc.parameters(), lr=2e-3)

history = []
for epoch in range(20):
    if epoch == 14:
        for parameter in net.encoder.parameters():
            parameter.requires_grad = True
        optimizer.add_param_group({"params": net.encoder.parameters(), "lr": 1e-4})
    net.train()
    running = 0.0
    for images, labels in letter_train:
        logits = net(jitter(images))
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * len(labels)
    history.append(accuracy(net, letter_valid))
    print(f"letters epoch {epoch}: loss {running / len(train_y):.3f}  accuracy {history[-1]:.3f}")

# %%
print("final accuracy on letters", history[-1])
os.remove(path)
