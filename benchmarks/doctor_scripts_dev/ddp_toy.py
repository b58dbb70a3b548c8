import torch
import torch.nn as nn
from toydata import Shapes
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


class Trainer:
    def __init__(self, model, train_data, val_data, optimizer, gpu_id):
        self.gpu_id, self.model = gpu_id, model
        self.train_data, self.val_data, self.optimizer = train_data, val_data, optimizer

    def _run_batch(self, source, targets):
        self.optimizer.zero_grad()
        output = self.model(source)
        loss = nn.functional.cross_entropy(output, targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _run_epoch(self, epoch):
        self.train_data.sampler.set_epoch(epoch)
        self.model.train()
        for source, targets in self.train_data:
            last = self._run_batch(source, targets)
        print(f"[GPU{self.gpu_id}] Epoch {epoch} | Loss {last} | Acc {self._evaluate()}")

    def _evaluate(self):
        self.model.eval()
        with torch.no_grad():
            pairs = [(self.model(x).argmax(1), y) for x, y in self.val_data]
        self.model.train()
        return torch.cat([p == y for p, y in pairs]).float().mean().item()

    def train(self, max_epochs):
        for epoch in range(max_epochs):
            self._run_epoch(epoch)


def load_train_objs():
    model = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 32, 3, padding=1),
                          nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 6))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    return Shapes(train=True), Shapes(train=False), model, optimizer


def prepare_dataloader(dataset, batch_size):
    sampler = DistributedSampler(dataset, num_replicas=2, rank=0)
    return DataLoader(dataset, batch_size=batch_size, pin_memory=False, shuffle=False, sampler=sampler)


if __name__ == "__main__":
    torch.manual_seed(0)
    train_set, val_set, model, optimizer = load_train_objs()
    trainer = Trainer(model, prepare_dataloader(train_set, 30), DataLoader(val_set, batch_size=60), optimizer, 0)
    trainer.train(6)
