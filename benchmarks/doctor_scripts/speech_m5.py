import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from toydata import waves

torch.manual_seed(0)
train_x, train_y = waves(600, seed=0)
test_x, test_y = waves(160, seed=1)
train_loader = torch.utils.data.DataLoader(list(zip(train_x, train_y)), batch_size=32, shuffle=True)
test_loader = torch.utils.data.DataLoader(list(zip(test_x, test_y)), batch_size=32, shuffle=False)


class M5(nn.Module):
    def __init__(self, n_input=1, n_output=4, n_channel=16):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=9, stride=2)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.pool1 = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3)
        self.bn2 = nn.BatchNorm1d(2 * n_channel)
        self.pool2 = nn.MaxPool1d(2)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))
        x = F.avg_pool1d(x, x.shape[-1])
        x = x.permute(0, 2, 1)
        x = self.fc1(x)
        return F.log_softmax(x, dim=2)


model = M5()
optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=0.0001)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.1)


def train(model, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        output = model(data)
        loss = F.nll_loss(output.squeeze(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"Train Epoch: {epoch}\tLoss: {loss.item():.6f}")


def number_of_correct(pred, target):
    return pred.squeeze().eq(target).sum().item()


def get_likely_index(tensor):
    return tensor.argmax(dim=-1)


def test(model, epoch):
    model.eval()
    correct = 0
    for data, target in test_loader:
        output = model(data)
        pred = get_likely_index(output)
        correct += number_of_correct(pred, target)
    print(f"Test Epoch: {epoch}\tAccuracy: {correct}/{len(test_loader.dataset)}")


for epoch in range(1, 7):
    train(model, epoch)
    test(model, epoch)
    scheduler.step()
