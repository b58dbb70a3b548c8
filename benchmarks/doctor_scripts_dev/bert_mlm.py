import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset
from toydata import text

PAD, CLS, MASK = 0, 1, 2
words = sorted(set(text(4000).split()))
vocab = {w: i + 3 for i, w in enumerate(words)}


class MLMDataset(Dataset):
    def __init__(self, seed, seq_len=16, mask_prob=0.2):
        ids = [vocab[w] for w in text(14000 if seed == 0 else 4000, seed=seed).split() if w in vocab]
        self.chunks = [ids[i : i + seq_len - 1] for i in range(0, len(ids) - seq_len, seq_len // 2)]
        self.mask_prob = mask_prob

    def __len__(self):
        return len(self.chunks)

    def __getitem__(self, i):
        input_ids = torch.tensor([CLS] + self.chunks[i])
        labels = input_ids.clone()
        masked = torch.rand(len(input_ids)) < self.mask_prob
        masked[0] = False
        masked[1 + int(torch.randint(0, len(input_ids) - 1, ()))] = True
        labels[~masked] = -100
        input_ids[masked] = MASK
        return {"input_ids": input_ids, "labels": labels}


class BertLM(nn.Module):
    def __init__(self, vocab_size, hidden=48, n_layers=2, attn_heads=4, max_len=16):
        super().__init__()
        self.token, self.position = nn.Embedding(vocab_size, hidden), nn.Embedding(max_len, hidden)
        layer = nn.TransformerEncoderLayer(hidden, attn_heads, 4 * hidden, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        self.decoder = nn.Linear(hidden, vocab_size)

    def forward(self, input_ids):
        x = self.token(input_ids) + self.position(torch.arange(input_ids.shape[1]))
        return self.decoder(self.encoder(x))


class BERTTrainer:
    def __init__(self, bert, train_dataloader, test_dataloader, lr=2e-3):
        self.model, self.train_data, self.test_data = bert, train_dataloader, test_dataloader
        self.optim = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=0.01)
        self.criterion = nn.CrossEntropyLoss(ignore_index=-100)

    def train(self, epoch):
        self.iteration(epoch, self.train_data)

    @torch.no_grad()
    def test(self, epoch):
        self.iteration(epoch, self.test_data, train=False)

    def iteration(self, epoch, data_loader, train=True):
        self.model.train(train)
        avg_loss, total_correct, total_element = 0.0, 0, 0
        for i, data in enumerate(data_loader):
            mask_lm_output = self.model(data["input_ids"])
            loss = self.criterion(mask_lm_output.transpose(1, 2), data["labels"])
            if train:
                self.optim.zero_grad()
                loss.backward()
                self.optim.step()
            known = data["labels"] != -100
            total_correct += (mask_lm_output.argmax(dim=-1)[known] == data["labels"][known]).sum().item()
            total_element += known.sum().item()
            avg_loss += loss.item()
        print(f"EP{epoch} avg_loss={avg_loss / len(data_loader)} acc={total_correct / total_element}")


torch.manual_seed(0)
trainer = BERTTrainer(
    BertLM(len(vocab) + 3),
    DataLoader(MLMDataset(0), batch_size=32, shuffle=True),
    DataLoader(MLMDataset(9), batch_size=32),
)
for epoch in range(10):
    trainer.train(epoch)
    trainer.test(epoch)
