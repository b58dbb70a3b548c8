import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from toydata import Shapes


def augment(image):
    if torch.rand(()) < 0.5:
        image = image.flip(-1)
    image = image * (0.8 + 0.4 * torch.rand(3, 1, 1))
    image = torch.roll(image, torch.randint(-2, 3, (2,)).tolist(), (1, 2))
    return (image + 0.05 * torch.randn_like(image)).clamp(0, 1)


class ContrastiveLearningDataset(Dataset):
    def __init__(self, n_views=2):
        self.base, self.n_views = Shapes(train=True), n_views

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, target = self.base[index]
        return [augment(image) for _ in range(self.n_views)], target


class SimCLR:
    def __init__(self, model, optimizer, scheduler, batch_size=64, temperature=0.2, epochs=6):
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.batch_size, self.temperature, self.epochs = batch_size, temperature, epochs
        self.criterion = nn.CrossEntropyLoss()

    def info_nce_loss(self, features):
        labels = torch.cat([torch.arange(self.batch_size) for _ in range(2)], dim=0)
        labels = (labels.unsqueeze(0) == labels.unsqueeze(1)).float()
        features = F.normalize(features, dim=1)
        similarity = torch.matmul(features, features.T)
        mask = torch.eye(labels.shape[0], dtype=torch.bool)
        labels = labels[~mask].view(labels.shape[0], -1)
        similarity = similarity[~mask].view(similarity.shape[0], -1)
        positives = similarity[labels.bool()].view(labels.shape[0], -1)
        negatives = similarity[~labels.bool()].view(similarity.shape[0], -1)
        logits = torch.cat([positives, negatives], dim=1)
        return logits / self.temperature, torch.zeros(logits.shape[0], dtype=torch.long)

    def train(self, train_loader):
        for epoch in range(self.epochs):
            for images, _ in train_loader:
                images = torch.cat(images, dim=0)
                features = self.model(images)
                logits, labels = self.info_nce_loss(features)
                loss = self.criterion(logits, labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            self.scheduler.step()
            top1 = (logits.argmax(1) == labels).float().mean()
            print(f"Epoch: {epoch}\tLoss: {loss:.3f}\tTop1 accuracy: {top1:.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 32),
    )
    loader = DataLoader(ContrastiveLearningDataset(), batch_size=64, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    SimCLR(encoder, optimizer, scheduler).train(loader)
