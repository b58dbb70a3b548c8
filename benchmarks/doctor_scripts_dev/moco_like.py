import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from toydata import Shapes
from torch.utils.data import DataLoader


class TwoCropsTransform:
    def __call__(self, x):
        return [self.one(x), self.one(x)]

    def one(self, x):
        x = x * (0.85 + 0.3 * torch.rand(3, 1, 1))
        x = torch.roll(x, tuple(torch.randint(-2, 3, (2,)).tolist()), (1, 2))
        return (x + 0.03 * torch.randn_like(x)).clamp(0, 1)


def base_encoder(dim=24):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32),
        nn.ReLU(), nn.Flatten(), nn.Linear(512, 48), nn.ReLU(), nn.Linear(48, dim))  # fmt: skip


class MoCo(nn.Module):
    def __init__(self, dim=24, K=256, m=0.95, T=0.2):
        super().__init__()
        self.K, self.m, self.T = K, m, T
        self.encoder_q = base_encoder(dim)
        self.encoder_k = copy.deepcopy(self.encoder_q)
        for param in self.encoder_k.parameters():
            param.requires_grad = False
        self.register_buffer("queue", F.normalize(torch.randn(dim, K), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def _momentum_update_key_encoder(self):
        for param_q, param_k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            param_k.data = param_k.data * self.m + param_q.data * (1.0 - self.m)

    @torch.no_grad()
    def _dequeue_and_enqueue(self, keys):
        ptr = int(self.queue_ptr)
        self.queue[:, ptr : ptr + keys.shape[0]] = keys.T
        self.queue_ptr[0] = (ptr + keys.shape[0]) % self.K

    def forward(self, im_q, im_k):
        q = F.normalize(self.encoder_q(im_q), dim=1)
        with torch.no_grad():
            self._momentum_update_key_encoder()
            k = F.normalize(self.encoder_k(im_k), dim=1)
        l_pos = torch.einsum("nc,nc->n", [q, k]).unsqueeze(-1)
        l_neg = torch.einsum("nc,ck->nk", [q, self.queue.clone().detach()])
        logits = torch.cat([l_pos, l_neg], dim=1) / self.T
        labels = torch.zeros(logits.shape[0], dtype=torch.long)
        self._dequeue_and_enqueue(k)
        return logits, labels


def main():
    torch.manual_seed(0)
    model = MoCo()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.encoder_q.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    train_loader = DataLoader(Shapes(True, transform=TwoCropsTransform()), batch_size=64, shuffle=True, drop_last=True)
    for epoch in range(6):
        model.train()
        for i, (images, _) in enumerate(train_loader):
            output, target = model(im_q=images[0], im_k=images[1])
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), (output.argmax(1) == target).float().mean().item())


if __name__ == "__main__":
    main()
