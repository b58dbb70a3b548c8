# %% [markdown]
# # Learning with noisy labels
# 30 % of the training labels are replaced by other classes. The generalized cross entropy (Zhang and Sabuncu, 2018) lies
# between cross entropy (q to 0) and the mean absolute error (q = 1), and does not chase labels that look wrong.
# Validation labels are clean.

# %%
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(2024)
NUM_CLASSES = 10
NOISE = 0.3
EPOCHS = 30
BATCH_SIZE = 60

# %% data
x_train, y_clean = draw_digits(2400, seed=0)
x_valid, y_valid = draw_digits(400, seed=1)

x_train, x_valid = x_train.float() / 255, x_valid.float() / 255
mean, std = x_train.mean(), x_train.std()
x_train, x_valid = (x_train - mean) / std, (x_valid - mean) / std

# %% symmetric noise: a wrong label is one of the nine other classes
flipped = torch.rand(len(y_clean)) < NOISE
offsets = torch.randint(1, NUM_CLASSES, (len(y_clean),))
y_noisy = torch.where(flipped, (y_clean + offsets) % NUM_CLASSES, y_clean)
print(f"share of wrong labels: {(y_noisy != y_clean).float().mean():.3f}")

train_loader = DataLoader(TensorDataset(x_train, y_noisy), batch_size=BATCH_SIZE, shuffle=True)
valid_loader = DataLoader(TensorDataset(x_valid, y_valid), batch_size=100)


# %% loss
class GeneralizedCrossEntropy(nn.Module):
    def __init__(self, q=0.7):
        super().__init__()
        self.q = q

    def forward(self, logits, labels):
        probability = F.softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
        return ((1 - probability.clamp(min=1e-7) ** self.q) / self.q).mean()


# %% model
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(16), nn.BatchNorm2d(32), nn.BatchNorm2d(64)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(64 * 2 * 2, NUM_CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.norm3(self.conv3(x))), 2)
        return self.fc(self.dropout(x.flatten(1)))


model = Net()
criterion = GeneralizedCrossEntropy(q=0.7)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[18, 25], gamma=0.2)


# %%
def evaluate(loader):
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for x, y in loader:
            correct += (model(x).argmax(dim=1) == y).sum().item()
            total += y.size(0)
    return correct / total


# %% training
history = {"loss": [], "noisy_accuracy": [], "valid_accuracy": []}
for epoch in range(EPOCHS):
    model.train()
    loss_sum, agree, seen = 0.0, 0, 0
    for x, y in train_loader:
        optimizer.zero_grad()
        logits = model(x)
        loss = criterion(logits, y)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * y.size(0)
        agree += (logits.argmax(dim=1) == y).sum().item()
        seen += y.size(0)
    scheduler.step()
    history["loss"].append(loss_sum / seen)
    history["noisy_accuracy"].append(agree / seen)  # about 0.7 is best: more would be noise learned by heart
    history["valid_accuracy"].append(evaluate(valid_loader))
    print(
        f"[{epoch + 1:02d}/{EPOCHS}] loss {history['loss'][-1]:.4f} agreement with noisy labels "
        f"{history['noisy_accuracy'][-1]:.3f} valid accuracy {history['valid_accuracy'][-1]:.4f}",
        flush=True,
    )

# %% how many of the wrong labels does the network see through?
model.eval()
with torch.no_grad():
    guessed = torch.cat([model(x).argmax(dim=1) for x in x_train.split(200)])
print(f"wrong labels put right: {(guessed == y_clean)[flipped].float().mean():.3f}")
