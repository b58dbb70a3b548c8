# Sentiment of short reviews with negations ("the soup was not very bad"), trained with Accelerate.
import random
from collections import Counter

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

GOOD = ["good", "lovely", "fresh", "clean", "friendly", "excellent"]
BAD = ["bad", "awful", "stale", "dirty", "rude", "terrible"]
NOUNS = ["soup", "room", "waiter", "view", "bread", "music", "wine", "table", "garden", "coffee"]
PAD, UNK = 0, 1


def make_clause(rng, positive):
    negated = rng.random() < 0.4
    words = ["the", rng.choice(NOUNS), rng.choice(["was", "seemed"])]
    if negated:
        words.append("not")
    if rng.random() < 0.5:
        words.append(rng.choice(["very", "really", "so"]))
    words.append(rng.choice(GOOD if positive != negated else BAD))
    return " ".join(words)


def make_reviews(count, seed):
    """Different reviews of two to four clauses of one opinion."""
    rng = random.Random(seed)
    reviews = {}
    while len(reviews) < count:
        positive = rng.random() < 0.5
        text = " and ".join(make_clause(rng, positive) for _ in range(rng.randint(2, 4)))
        reviews[text] = int(positive)
    return list(reviews.items())


class ReviewDataset(Dataset):
    def __init__(self, reviews, vocab):
        self.ids = [torch.tensor([vocab.get(word, UNK) for word in text.split()]) for text, _ in reviews]
        self.labels = [label for _, label in reviews]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.ids[index], self.labels[index]


def collate_fn(samples):
    ids, labels = zip(*samples)
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=PAD),
        "lengths": torch.tensor([len(row) for row in ids]),
        "labels": torch.tensor(labels),
    }


class GRUClassifier(nn.Module):
    def __init__(self, vocab_size, embed_dim=32, hidden_dim=32, num_labels=2):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.dropout = nn.Dropout(0.1)
        self.gru = nn.GRU(embed_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * hidden_dim, num_labels)

    def forward(self, input_ids, lengths):
        embedded = self.dropout(self.embed(input_ids))
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        mean = states.sum(dim=1) / lengths.unsqueeze(1)  # states of the padding are zero
        return self.classifier(self.dropout(mean))


def main():
    config = {"lr": 4e-3, "num_epochs": 10, "seed": 1234, "batch_size": 50}
    set_seed(config["seed"])
    accelerator = Accelerator(cpu=True)

    reviews = make_reviews(1800, config["seed"])
    train_reviews, eval_reviews = reviews[:1500], reviews[1500:]
    counts = Counter(word for text, _ in train_reviews for word in text.split())
    vocab = {word: i + 2 for i, (word, _) in enumerate(counts.most_common())}
    train_dataset, eval_dataset = ReviewDataset(train_reviews, vocab), ReviewDataset(eval_reviews, vocab)
    train_dataloader = DataLoader(
        train_dataset, shuffle=True, batch_size=config["batch_size"], collate_fn=collate_fn
    )
    eval_dataloader = DataLoader(eval_dataset, shuffle=False, batch_size=100, collate_fn=collate_fn)

    model = GRUClassifier(len(vocab) + 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    total_steps = config["num_epochs"] * len(train_dataloader)
    lr_scheduler = LambdaLR(optimizer, lambda step: max(0.02, 1 - step / total_steps))
    loss_fn = nn.CrossEntropyLoss()

    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )

    for epoch in range(config["num_epochs"]):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            logits = model(batch["input_ids"], batch["lengths"])
            loss = loss_fn(logits, batch["labels"])
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            total_loss += loss.detach()

        model.eval()
        correct, seen = 0, 0
        for batch in eval_dataloader:
            with torch.no_grad():
                predictions = model(batch["input_ids"], batch["lengths"]).argmax(dim=-1)
            predictions, references = accelerator.gather_for_metrics((predictions, batch["labels"]))
            correct += (predictions == references).sum().item()
            seen += references.shape[0]
        accelerator.print(
            f"epoch {epoch}: train loss {float(total_loss) / len(train_dataloader):.4f}, accuracy {correct / seen:.4f}"
        )


if __name__ == "__main__":
    main()
