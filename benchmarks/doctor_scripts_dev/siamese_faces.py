import torch
import torch.nn as nn
import torch.nn.functional as F
from toydata import draw_digits
from torch.utils.data import DataLoader, Dataset


class SiameseNetworkDataset(Dataset):
    def __init__(self, n, seed):
        images, self.labels = draw_digits(n, seed=seed, shift=1)
        self.images = images.float() / 255

    def __getitem__(self, index):
        should_get_same_class = torch.rand(()) < 0.5
        while True:
            other = int(torch.randint(0, len(self.images), ()))
            if bool(self.labels[index] == self.labels[other]) == bool(should_get_same_class):
                break
        # 1 where the two differ
        return self.images[index], self.images[other], torch.tensor([float(self.labels[index] != self.labels[other])])

    def __len__(self):
        return len(self.images)


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn1 = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2))  # fmt: skip
        self.fc1 = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 8))

    def forward_once(self, x):
        return self.fc1(self.cnn1(x).view(x.size(0), -1))

    def forward(self, input1, input2):
        return self.forward_once(input1), self.forward_once(input2)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        euclidean_distance = F.pairwise_distance(output1, output2, keepdim=True)
        return torch.mean(
            (1 - label) * torch.pow(euclidean_distance, 2)
            + label * torch.pow(torch.clamp(self.margin - euclidean_distance, min=0.0), 2)
        )


torch.manual_seed(0)
train_dataloader = DataLoader(SiameseNetworkDataset(900, 21), shuffle=True, batch_size=48)
net = SiameseNetwork()
criterion = ContrastiveLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
for epoch in range(6):
    for i, data in enumerate(train_dataloader, 0):
        img0, img1, label = data
        optimizer.zero_grad()
        output1, output2 = net(img0, img1)
        loss_contrastive = criterion(output1, output2, label)
        loss_contrastive.backward()
        optimizer.step()
    print(f"Epoch number {epoch}\n Current loss {loss_contrastive.item()}\n")
