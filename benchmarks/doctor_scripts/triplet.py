import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from toydata import draw_digits


class TripletFaces(Dataset):
    def __init__(self, train):
        images, self.labels = draw_digits(800 if train else 200, seed=5 if train else 6, shift=1)
        self.images = images.float() / 255
        self.by_label = {d: torch.nonzero(self.labels == d).flatten().tolist() for d in range(10)}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        anchor_label = int(self.labels[index])
        same = self.by_label[anchor_label]
        positive = same[int(torch.randint(0, len(same), (1,)))]
        negative_label = (anchor_label + int(torch.randint(1, 10, (1,)))) % 10
        other = self.by_label[negative_label]
        negative = other[int(torch.randint(0, len(other), (1,)))]
        return self.images[index], self.images[positive], self.images[negative], anchor_label


class Embedder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 5), nn.Conv2d(16, 32, 3)
        self.fc = nn.Linear(32 * 4, dim)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.normalize(self.fc(x.flatten(1)), dim=1)


class Trainer:
    def __init__(self):
        self.model = Embedder()
        self.loader = DataLoader(TripletFaces(True), batch_size=32, shuffle=True)
        self.test_set = TripletFaces(False)
        self.criterion = nn.TripletMarginLoss(margin=0.5)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=2e-3)

    def run(self, epochs=6):
        for epoch in range(epochs):
            self.model.train()
            total = 0.0
            for anchor, positive, negative, _ in self.loader:
                a, p, n = self.model(anchor), self.model(positive), self.model(negative)
                loss = self.criterion(a, p, n)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.item()
            print(epoch, total / len(self.loader), "precision@1", self.validate())

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        embeddings = self.model(self.test_set.images)
        distance = torch.cdist(embeddings, embeddings)
        distance.fill_diagonal_(float("inf"))
        return (self.test_set.labels[distance.argmin(1)] == self.test_set.labels).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(7)
    Trainer().run()
