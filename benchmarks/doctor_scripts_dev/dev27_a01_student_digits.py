# My first neural network with PyTorch: reading the digits of our scanner (course project, part 3)
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

torch.manual_seed(1)
torch.set_num_threads(1)

batch_size = 32
learning_rate = 0.02
num_epochs = 20


def to_tensor(img):
    img = img.float() / 255.0
    return (img - 0.23) / 0.31


train_set = Digits(train=True, count=1600, transform=to_tensor, noise=0.2, shift=3)
val_set = Digits(train=False, count=400, transform=to_tensor, noise=0.2, shift=3)
train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
val_loader = DataLoader(val_set, batch_size=100, shuffle=False)
print("train images:", len(train_set), "validation images:", len(val_set))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.25)
        self.fc1 = nn.Linear(48 * 4 * 4, 100)
        self.fc2 = nn.Linear(100, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))   # 24 x 8 x 8
        x = self.pool(F.relu(self.conv2(x)))   # 48 x 4 x 4
        x = torch.flatten(x, 1)
        x = self.drop(F.relu(self.fc1(x)))
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


net = Net()
print(net)
optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)

train_losses = []
val_accuracies = []

for epoch in range(num_epochs):
    # ---- training ----
    net.train()
    running_loss = 0.0
    seen = 0
    for images, labels in train_loader:
        optimizer.zero_grad()
        output = net(images)
        loss = F.nll_loss(output, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * images.size(0)
        seen += images.size(0)
    train_losses.append(running_loss / seen)

    # ---- validation ----
    net.eval()
    correct = 0
    val_loss = 0.0
    with torch.no_grad():
        for images, labels in val_loader:
            output = net(images)
            val_loss += F.nll_loss(output, labels, reduction="sum").item()
            predicted = output.argmax(dim=1)
            correct += (predicted == labels).sum().item()
    accuracy = correct / len(val_set)
    val_loss /= len(val_set)
    val_accuracies.append(accuracy)
    print(f"Epoch {epoch + 1}/{num_epochs}  train loss {train_losses[-1]:.4f}  "
          f"val loss {val_loss:.4f}  val accuracy {100 * accuracy:.1f}%")

print("Finished Training, best accuracy:", max(val_accuracies))
