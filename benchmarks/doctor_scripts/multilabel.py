import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset
from toydata import Shapes

ATTRIBUTES = ["red", "blue", "square", "disc", "cross"]


class AttributeDataset(Dataset):
    def __init__(self, split):
        self.shapes = Shapes(train=split == "train")

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        name = self.shapes.names[idx]
        labels = torch.tensor([float(a in name.split()) for a in ATTRIBUTES])
        return {"img": self.shapes.images[idx], "lab": labels}


class DenseNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.c1 = nn.Conv2d(3, 16, 3, padding=1)
        self.b1 = nn.BatchNorm2d(16)
        self.c2 = nn.Conv2d(16, 16, 3, padding=1)
        self.b2 = nn.BatchNorm2d(32)
        self.c3 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.classifier = nn.Linear(128, num_classes)

    def forward(self, x):
        x = torch.relu(self.b1(self.c1(x)))
        x = torch.cat([x, self.c2(x)], 1)
        x = torch.relu(self.c3(torch.relu(self.b2(x))))
        return self.classifier(nn.functional.adaptive_max_pool2d(x, 2).flatten(1))


def train_epoch(cfg, epoch, model, train_loader, optimizer, criterion):
    model.train()
    avg_loss = []
    for samples in train_loader:
        optimizer.zero_grad()
        images, targets = samples["img"], samples["lab"]
        outputs = model(images)
        loss = criterion(outputs, targets)
        loss.backward()
        avg_loss.append(loss.detach().cpu().item())
        optimizer.step()
    print(f"Epoch {epoch + 1} - Train - Loss = {sum(avg_loss) / len(avg_loss):4.4f}")


def valid_epoch(epoch, model, data_loader):
    model.eval()
    outputs, targets = [], []
    with torch.no_grad():
        for samples in data_loader:
            outputs.append(torch.sigmoid(model(samples["img"])))
            targets.append(samples["lab"])
    predicted = (torch.cat(outputs) > 0.5).float()
    targets = torch.cat(targets)
    per_task = (predicted == targets).float().mean(0)
    exact = (predicted == targets).all(1).float().mean()
    print(f"Epoch {epoch + 1} - valid - accuracy per label {per_task.tolist()} exact {exact:.3f}")


if __name__ == "__main__":
    cfg = {"lr": 2e-3, "num_epochs": 5, "batch_size": 32}
    torch.manual_seed(0)
    train_loader = DataLoader(AttributeDataset("train"), batch_size=cfg["batch_size"], shuffle=True)
    valid_loader = DataLoader(AttributeDataset("valid"), batch_size=cfg["batch_size"], shuffle=False)
    model = DenseNet(len(ATTRIBUTES))
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg["lr"], weight_decay=1e-5, amsgrad=True)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(cfg["num_epochs"]):
        train_epoch(cfg, epoch, model, train_loader, optimizer, criterion)
        valid_epoch(epoch, model, valid_loader)
