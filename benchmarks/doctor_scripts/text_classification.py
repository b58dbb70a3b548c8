import torch
from torch import nn
from torch.utils.data import DataLoader
from toydata import text

torch.manual_seed(0)
LABELS = {"sees": 0, "eats": 1, "likes": 2}


def news(seed, count):
    rows = []
    for line in text(count * 40, seed=seed).split(".\n")[:count]:
        words = line.split()
        found = [w for w in words if w in LABELS]
        if len(words) == 5 and found:
            rows.append((LABELS[found[0]], words))
    return rows


train_iter, test_iter = news(0, 600), news(1, 150)
vocab = {w: i for i, w in enumerate(["<unk>"] + sorted({w for _, words in train_iter for w in words}))}


def collate_batch(batch):
    label_list, text_list, offsets = [], [], [0]
    for label, words in batch:
        label_list.append(label)
        processed_text = torch.tensor([vocab.get(w, 0) for w in words], dtype=torch.int64)
        text_list.append(processed_text)
        offsets.append(processed_text.size(0))
    return torch.tensor(label_list), torch.cat(text_list), torch.tensor(offsets[:-1]).cumsum(dim=0)


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, sparse=False)
        self.fc = nn.Linear(embed_dim, num_class)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text, offsets):
        return self.fc(self.embedding(text, offsets))


EPOCHS, LR, BATCH_SIZE = 6, 5, 16
model = TextClassificationModel(len(vocab), 32, 3)
criterion = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1.0, gamma=0.5)
train_dataloader = DataLoader(train_iter, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_batch)
test_dataloader = DataLoader(test_iter, batch_size=BATCH_SIZE, shuffle=False, collate_fn=collate_batch)


def train(dataloader):
    model.train()
    for idx, (label, text, offsets) in enumerate(dataloader):
        optimizer.zero_grad()
        predicted_label = model(text, offsets)
        loss = criterion(predicted_label, label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()


def evaluate(dataloader):
    model.eval()
    total_acc, total_count = 0, 0
    with torch.no_grad():
        for idx, (label, text, offsets) in enumerate(dataloader):
            predicted_label = model(text, offsets)
            total_acc += (predicted_label.argmax(1) == label).sum().item()
            total_count += label.size(0)
    return total_acc / total_count


for epoch in range(1, EPOCHS + 1):
    train(train_dataloader)
    accu_val = evaluate(test_dataloader)
    scheduler.step()
    print(f"| end of epoch {epoch:3d} | valid accuracy {accu_val:8.3f}")
