import torch
from accelerate import Accelerator
from torch.optim import AdamW
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

POSITIVE = ["good", "great", "fine", "lovely"]
NEGATIVE = ["bad", "awful", "poor", "dull"]
OTHER = ["the", "film", "is", "was", "plot", "actor", "music", "and", "a"]
VOCAB = ["[PAD]", "[CLS]", "[SEP]", *POSITIVE, *NEGATIVE, *OTHER]


class Reviews(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.rows = []
        for _ in range(n):
            label = int(torch.randint(0, 2, (), generator=g))
            length = int(torch.randint(5, 12, (), generator=g))
            tokens = [OTHER[int(i)] for i in torch.randint(0, len(OTHER), (length,), generator=g)]
            for _ in range(2):
                bag = POSITIVE if label else NEGATIVE
                tokens[int(torch.randint(0, length, (), generator=g))] = bag[int(torch.randint(0, 4, (), generator=g))]
            self.rows.append(([VOCAB.index(t) for t in ["[CLS]", *tokens, "[SEP]"]], label))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate_fn(examples):
    longest = max(len(ids) for ids, _ in examples)
    input_ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in examples])
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long(),
            "labels": torch.tensor([label for _, label in examples])}  # fmt: skip


def training_function(num_epochs=3, lr=5e-4, seed=42, batch_size=32):
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(seed)
    train_dataloader = DataLoader(Reviews(900, 0), shuffle=True, collate_fn=collate_fn, batch_size=batch_size)
    eval_dataloader = DataLoader(Reviews(200, 1), shuffle=False, collate_fn=collate_fn, batch_size=50)
    config = BertConfig(vocab_size=len(VOCAB), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=96, num_labels=2, max_position_embeddings=32)  # fmt: skip
    model = BertForSequenceClassification(config)
    optimizer = AdamW(params=model.parameters(), lr=lr)
    lr_scheduler = get_linear_schedule_with_warmup(
        optimizer=optimizer, num_warmup_steps=10, num_training_steps=len(train_dataloader) * num_epochs
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )
    for epoch in range(num_epochs):
        model.train()
        for step, batch in enumerate(train_dataloader):
            outputs = model(**batch)
            loss = outputs.loss
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
        model.eval()
        correct = total = 0
        for step, batch in enumerate(eval_dataloader):
            with torch.no_grad():
                outputs = model(**batch)
            predictions = outputs.logits.argmax(dim=-1)
            correct += (predictions == batch["labels"]).sum().item()
            total += len(predictions)
        accelerator.print(f"epoch {epoch}:", correct / total)


if __name__ == "__main__":
    training_function()
