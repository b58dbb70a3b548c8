"""Topic classification with a tiny BERT from scratch and the Hugging Face Trainer, with label smoothing."""

import random
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments, set_seed

TOPICS = {
    "sports": "team goal match coach season player score league stadium final".split(),
    "weather": "rain cloud storm wind sunny snow forecast cold degree fog".split(),
    "cooking": "oven flour recipe butter onion salt boil pan dinner spice".split(),
    "space": "rocket orbit planet star launch moon telescope comet crew probe".split(),
}
FILLER = "the a of in today was and more with for new this that will very after before some old long".split()
LABELS = list(TOPICS)
WORDS = ["[PAD]", "[CLS]", "[SEP]"] + FILLER + [w for words in TOPICS.values() for w in words]
VOCAB = {word: index for index, word in enumerate(WORDS)}
MAX_LENGTH = 20


def make_sentences(count, seed):
    """Two or three words of the topic and one of another among filler."""
    rng = random.Random(seed)
    sentences = []
    for _ in range(count):
        label = rng.randrange(4)
        words = rng.sample(TOPICS[LABELS[label]], rng.randint(2, 3))
        words.append(rng.choice(TOPICS[LABELS[(label + rng.randint(1, 3)) % 4]]))
        words += rng.choices(FILLER, k=rng.randint(4, 12))
        rng.shuffle(words)
        sentences.append((" ".join(words), label))
    return sentences


def tokenize(sentence):
    return [VOCAB["[CLS]"]] + [VOCAB[word] for word in sentence.split()][: MAX_LENGTH - 2] + [VOCAB["[SEP]"]]


class TopicDataset(Dataset):
    def __init__(self, sentences):
        self.items = [(tokenize(sentence), label) for sentence, label in sentences]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        ids, label = self.items[index]
        return {"input_ids": ids, "labels": label}


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    ids = torch.zeros(len(features), longest, dtype=torch.long)
    attention = torch.zeros(len(features), longest, dtype=torch.long)
    for row, feature in enumerate(features):
        length = len(feature["input_ids"])
        ids[row, :length] = torch.tensor(feature["input_ids"])
        attention[row, :length] = 1
    return {"input_ids": ids, "attention_mask": attention, "labels": torch.tensor([f["labels"] for f in features])}


def compute_metrics(eval_pred):
    predictions = np.argmax(eval_pred.predictions, axis=-1)
    return {"accuracy": float((predictions == eval_pred.label_ids).mean())}


class PrintMetrics(TrainerCallback):
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        print(f"epoch {state.epoch:.0f}: eval loss {metrics['eval_loss']:.4f} accuracy {metrics['eval_accuracy']:.4f}")


def main():
    set_seed(0)
    train_sentences = make_sentences(2400, seed=0)
    known = {sentence for sentence, _ in train_sentences}
    eval_sentences = [item for item in make_sentences(600, seed=1) if item[0] not in known]
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=32,
        pad_token_id=0,
        num_labels=4,
    )
    model = BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=10,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup_steps=75,
            lr_scheduler_type="linear",
            label_smoothing_factor=0.1,
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            seed=0,
        )
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=TopicDataset(train_sentences),
            eval_dataset=TopicDataset(eval_sentences),
            data_collator=collate,
            compute_metrics=compute_metrics,
            callbacks=[PrintMetrics()],
        )
        trainer.train()
        print("final", trainer.evaluate()["eval_accuracy"])


if __name__ == "__main__":
    main()
