from collections import OrderedDict

import torch
from toydata import NAMES, Shapes
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset


class NamedFolder(Dataset):
    """As ImageFolder: classes by the names that are found."""

    def __init__(self, split, transform=None):
        self.samples = Shapes(train=split == "train")
        self.classes = sorted(set(self.samples.names))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image = self.samples.images[index]
        return (self.transform(image) if self.transform else image), self.class_to_idx[self.samples.names[index]]


def train_transforms(image):
    if torch.rand(1).item() < 0.5:
        image = torch.flip(image, dims=[2])
    return (image - 0.5) / 0.25


def test_transforms(image):
    return (image - 0.5) / 0.25


trainset, testset = NamedFolder("train", train_transforms), NamedFolder("test", test_transforms)
trainloader = DataLoader(trainset, batch_size=50, shuffle=True)
testloader = DataLoader(testset, batch_size=60)
torch.manual_seed(11)
features = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(24, 32, 3, padding=1),
                         nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())  # fmt: skip
classifier = nn.Sequential(OrderedDict([("fc1", nn.Linear(512, 64)), ("relu", nn.ReLU()), ("drop", nn.Dropout(0.2)),
                                        ("fc2", nn.Linear(64, len(NAMES))), ("output", nn.LogSoftmax(dim=1))]))  # fmt: skip
model = nn.Sequential(OrderedDict([("features", features), ("classifier", classifier)]))
criterion = nn.NLLLoss()
optimizer = optim.Adam(model.parameters(), lr=0.001)

epochs, steps, running_loss, print_every = 4, 0, 0, 9
for epoch in range(epochs):
    for images, labels in trainloader:
        steps += 1
        model.train()
        optimizer.zero_grad()
        logps = model(images)
        loss = criterion(logps, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if steps % print_every == 0:
            test_loss, accuracy = 0, 0
            model.eval()
            with torch.no_grad():
                for images, labels in testloader:
                    logps = model(images)
                    test_loss += criterion(logps, labels).item()
                    ps = torch.exp(logps)
                    top_p, top_class = ps.topk(1, dim=1)
                    equals = top_class == labels.view(*top_class.shape)
                    accuracy += torch.mean(equals.type(torch.FloatTensor)).item()
            print(f"Epoch {epoch + 1}/{epochs}.. Train loss: {running_loss / print_every:.3f}.. "
                  f"Test accuracy: {accuracy / len(testloader):.3f}")  # fmt: skip
            running_loss = 0
