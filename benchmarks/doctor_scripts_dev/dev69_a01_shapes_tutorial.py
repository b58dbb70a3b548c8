"""
Training a Classifier
=====================

A small convolutional network that tells six kinds of drawn shapes apart.
"""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(42)

classes = ('circle', 'square', 'triangle', 'cross', 'ring', 'stripes')


########################################################################
# 1. Load and normalize the data
# ------------------------------

def draw_shape(label, rng, size=32):
    """Returns one picture as a (H, W, C) uint8 array, like PIL would."""
    yy, xx = np.mgrid[0:size, 0:size]
    cx, cy = rng.uniform(10, 22, size=2)
    r = rng.uniform(5, 9)
    dx, dy = (xx - cx) / r, (yy - cy) / r
    dist = np.sqrt(dx ** 2 + dy ** 2)
    box = np.maximum(np.abs(dx), np.abs(dy))
    if classes[label] == 'circle':
        mask = dist < 1
    elif classes[label] == 'square':
        mask = box < 0.9
    elif classes[label] == 'triangle':
        mask = (np.abs(dx) < (dy + 1) / 2) & (dy < 1)
    elif classes[label] == 'cross':
        mask = (np.minimum(np.abs(dx), np.abs(dy)) < 0.35) & (box < 1)
    elif classes[label] == 'ring':
        mask = (dist < 1) & (dist > 0.55)
    else:
        mask = (box < 1) & (np.floor((dy + 1) * 2.5) % 2 == 0)
    background = rng.uniform(0, 255, size=3)
    colour = (background + rng.uniform(60, 195, size=3)) % 255
    img = np.where(mask[..., None], colour, background)
    img = img + rng.normal(0, 45, size=img.shape)
    return np.clip(img, 0, 255).astype(np.uint8)


class ShapesDataset(Dataset):
    def __init__(self, n, seed, transform=None):
        rng = np.random.RandomState(seed)
        self.targets = rng.randint(len(classes), size=n)
        self.data = np.stack([draw_shape(t, rng) for t in self.targets])
        self.transform = transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, idx):
        img, target = self.data[idx], int(self.targets[idx])
        if self.transform is not None:
            img = self.transform(img)
        return img, target


class ToTensor:
    """Turns a picture (H, W, C) into a tensor (C, H, W)"""

    def __call__(self, img):
        img = torch.from_numpy(img)
        return img.permute(2, 0, 1).float() / 255


class Normalize:
    def __init__(self, mean, std):
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    def __call__(self, img):
        return (img - self.mean) / self.std


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, img):
        for t in self.transforms:
            img = t(img)
        return img


batch_size = 32

trainset = ShapesDataset(3000, seed=0)
# per channel statistics of the training pictures
mean = (trainset.data.mean(axis=(0, 1, 2)) / 255).tolist()
std = (trainset.data.std(axis=(0, 1, 2)) / 255).tolist()

transform = Compose([ToTensor(), Normalize(mean, std)])
trainset.transform = transform
trainloader = DataLoader(trainset, batch_size=batch_size, shuffle=True)

testset = ShapesDataset(1000, seed=1, transform=transform)
testloader = DataLoader(testset, batch_size=batch_size, shuffle=False)


########################################################################
# 2. Define a convolutional neural network
# ----------------------------------------

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(8, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, len(classes))

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)  # flatten all dimensions except batch
        x = F.relu(self.fc1(x))
        x = F.dropout(x, p=0.5, training=self.training)
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x


net = Net()

########################################################################
# 3. Define a loss function and optimizer
# ---------------------------------------

criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

########################################################################
# 4. Train the network
# --------------------

for epoch in range(12):  # loop over the dataset multiple times
    net.train()
    running_loss = 0.0
    for i, data in enumerate(trainloader, 0):
        # get the inputs; data is a list of [inputs, labels]
        inputs, labels = data

        # zero the parameter gradients
        optimizer.zero_grad()
        # forward + backward + optimize
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()

        # print statistics
        running_loss += loss.item()
        if i % 30 == 29:
            print(f'[{epoch + 1}, {i + 1:5d}] loss: {running_loss / 30:.3f}')
            running_loss = 0.0

print('Finished Training')

########################################################################
# 5. Test the network on the test data
# ------------------------------------

correct_pred = {classname: 0 for classname in classes}
total_pred = {classname: 0 for classname in classes}

net.eval()
# since we're not training, we don't need to calculate the gradients
with torch.no_grad():
    for data in testloader:
        images, labels = data
        outputs = net(images)
        _, predictions = torch.max(outputs, 1)
        for label, prediction in zip(labels, predictions):
            if label == prediction:
                correct_pred[classes[label]] += 1
            total_pred[classes[label]] += 1

correct, total = sum(correct_pred.values()), sum(total_pred.values())
print(f'Accuracy of the network on the {total} test images: {100 * correct / total:.1f} %')

for classname, correct_count in correct_pred.items():
    accuracy = 100 * float(correct_count) / total_pred[classname]
    print(f'Accuracy for class: {classname:8s} is {accuracy:.1f} %')
