# Homework 3 - digit recognition
# (my first network without the notebook template)

import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

from toydata import draw_digits

torch.manual_seed(42)
np.random.seed(42)

# hyperparameters
N_EPOCHS = 6
BATCH = 50
LR = 0.01
N_TEST = 400

# ---------------------------------------------------------------
# 1. the data
# ---------------------------------------------------------------
images, labels = draw_digits(2000, seed=3, noise=0.2)
print("images:", images.shape, images.dtype, "labels:", labels.shape)

x = images.numpy().astype("float32") / 255.0
y = labels.numpy()

x_train, x_test = x[:-N_TEST], x[-N_TEST:]
y_train, y_test = y[:-N_TEST], y[-N_TEST:]

m, s = x_train.mean(), x_train.std()
x_train = (x_train - m) / s
x_test = (x_test - m) / s
print("train:", x_train.shape, "test:", x_test.shape)

x_test = torch.from_numpy(x_test)
y_test = torch.from_numpy(y_test)


# ---------------------------------------------------------------
# 2. the network
# ---------------------------------------------------------------
class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(16 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))   # 16x16 -> 8x8
        x = self.pool(F.relu(self.conv2(x)))   # 8x8 -> 4x4
        x = x.view(-1, 16 * 4 * 4)
        x = F.relu(self.fc1(x))
        x = self.fc2(x)
        return x


net = Net()
print(net)
print("parameters:", sum(p.numel() for p in net.parameters()))

criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=LR, momentum=0.9)

# ---------------------------------------------------------------
# 3. training
# ---------------------------------------------------------------
losses = []
start = time.time()
for epoch in range(N_EPOCHS):
    # new order every epoch
    perm = np.random.permutation(len(x_train))
    x_train = x_train[perm]
    y_train = y_train[perm]

    total = 0.0
    for i in range(0, len(x_train), BATCH):
        inputs = torch.from_numpy(x_train[i:i + BATCH])
        targets = torch.from_numpy(y_train[i:i + BATCH])

        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()

        total += loss.item() * len(inputs)
    losses.append(total / len(x_train))
    print("epoch %d  loss %.4f  (%.1f s)" % (epoch + 1, losses[-1], time.time() - start))

print("Finished Training")

# ---------------------------------------------------------------
# 4. how good is it?
# ---------------------------------------------------------------
net.eval()
correct = 0
confusion = np.zeros((10, 10), dtype=int)
with torch.no_grad():
    for i in range(0, len(x_test), BATCH):
        outputs = net(x_test[i:i + BATCH])
        guess = outputs.argmax(dim=1)
        truth = y_test[i:i + BATCH]
        correct += (guess == truth).sum().item()
        for t, g in zip(truth.tolist(), guess.tolist()):
            confusion[t, g] += 1

print("Test accuracy: %.2f %%" % (100.0 * correct / len(x_test)))
for digit in range(10):
    row = confusion[digit]
    print("  digit %d: %3d of %3d right" % (digit, row[digit], row.sum()))
