# Deep Learning 1, exercise sheet 4: classify the digits with a CNN
# Group 12
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from sklearn.metrics import confusion_matrix

from toydata import draw_digits

torch.manual_seed(4)

# ----- hyperparameters -----
batchsize = 40
num_epochs = 7
learning_rate = 0.04

# ----- data -----
train_x, train_y = draw_digits(1400, seed=21, noise=0.2)
test_x, test_y = draw_digits(400, seed=22, noise=0.2)
print("train:", tuple(train_x.shape), train_x.dtype, "test:", tuple(test_x.shape))


class DigitData(Dataset):
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def __getitem__(self, i):
        return self.x[i], self.y[i]

    def __len__(self):
        return len(self.y)


train_x = train_x.float() / 255
test_x = test_x.float() / 255
# subtract the mean like in the lecture
pixel_mean = train_x.mean()
pixel_std = train_x.std()
train_x = (train_x - pixel_mean) / pixel_std
test_x = (test_x - pixel_mean) / pixel_std

train_data = DigitData(train_x, train_y)
test_data = DigitData(test_x, test_y)
train_loader = DataLoader(train_data, batch_size=batchsize, shuffle=True)
test_loader = DataLoader(test_data, batch_size=batchsize)


# ----- network -----
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(24 * 4 * 4, 64)
        self.drop = nn.Dropout(0.25)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.flatten(1)
        x = self.drop(F.relu(self.fc1(x)))
        x = self.fc2(x)
        return x


net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)

print("parameters:", sum(p.numel() for p in net.parameters()))

# ----- training -----
for epoch in range(num_epochs):
    net.train()
    running_loss = 0.0
    for i, (inputs, labels) in enumerate(train_loader):
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()

    # ----- test after every epoch -----
    net.eval()
    correct = 0
    all_pred = []
    with torch.no_grad():
        for inputs, labels in test_loader:
            outputs = net(inputs)
            _, predicted = torch.max(outputs, 1)
            correct += (predicted == labels).sum().item()
            all_pred.append(predicted)
    accuracy = 100 * correct / len(test_data)
    print("epoch %d  loss %.3f  test accuracy %.1f %%" % (epoch + 1, running_loss / len(train_loader), accuracy))

print("Finished Training")

# ----- which digits are mixed up? -----
cm = confusion_matrix(test_y.numpy(), torch.cat(all_pred).numpy(), labels=list(range(10)))
for d in range(10):
    print("digit", d, "right:", cm[d, d], "of", cm[d].sum())
print("final test accuracy: %.1f %%" % accuracy)
