"""A step is the same however its batch is cut into micro-batches, whether the model's loss is a sum or a mean."""

import pytest
import torch
import transformers as t
from toy import toy_arguments
from transformers import Trainer, TrainingArguments

from hf_mmtab.training import MMTabTrainer
from hf_mmtab.training.loss_scaling import uses_num_items

TINY = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def bert_config(**changes):
    return t.BertConfig(**TINY, **STILL, intermediate_size=32, num_labels=3, **changes)


def gpt2():
    sizes = {"vocab_size": 30, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return t.GPT2LMHeadModel(t.GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))


def llama_config():
    return t.LlamaConfig(**TINY, intermediate_size=32, num_key_value_heads=2, num_labels=3)


# Model → whether its loss divides by the labels of the accumulated batch.
MODELS = {
    "gpt2": (gpt2, True),
    "llama": (lambda: t.LlamaForCausalLM(llama_config()), True),
    "bert_masked": (lambda: t.BertForMaskedLM(bert_config()), False),
    "bert_classifier": (lambda: t.BertForSequenceClassification(bert_config()), False),
    "bert_several_labels": (
        lambda: t.BertForSequenceClassification(bert_config(problem_type="multi_label_classification")),
        False,
    ),
}


class Rows(torch.utils.data.Dataset):
    """Token ids; labels per token (few of the first rows count), per row, or several per row."""

    def __init__(self, kind):
        generator = torch.Generator().manual_seed(0)
        self.words = torch.randint(3, 30, (8, 6), generator=generator)
        self.labels = self.words.clone()
        if kind == "bert_classifier":
            self.labels = torch.arange(8) % 3
        elif kind == "bert_several_labels":
            self.labels = torch.randint(0, 2, (8, 3), generator=generator).float()
        else:
            self.labels[:3, 2:] = -100
            self.labels[0] = -100  # the first micro-batch of one row has no label at all

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"input_ids": self.words[index], "labels": self.labels[index]}


def gradient_norms(trainer_class, args_class, folder, kind, batch, accumulation):
    torch.manual_seed(0)
    options = {"audit": False, "max_grad_norm": 1e9, "logging_strategy": "steps", "logging_steps": 1, "optim": "sgd"}
    args = toy_arguments(folder, **options, num_train_epochs=1, train_sampling_strategy="sequential")
    args.per_device_train_batch_size, args.gradient_accumulation_steps = batch, accumulation
    if args_class is TrainingArguments:
        names = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_grad_norm", "logging_strategy")
        names += ("logging_steps", "optim", "num_train_epochs", "train_sampling_strategy", "learning_rate", "report_to")
        args = TrainingArguments(str(folder), use_cpu=True, **{name: getattr(args, name) for name in names})
    trainer = trainer_class(model=MODELS[kind][0](), args=args, train_dataset=Rows(kind))
    trainer.train()
    return [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]


@pytest.mark.parametrize("kind", MODELS)
def test_gradient_norm_does_not_depend_on_accumulation(tmp_path, kind):
    whole = gradient_norms(MMTabTrainer, None, tmp_path, kind, 4, 1)
    assert len(whole) == 2
    if MODELS[kind][1]:
        for batch in (1, 2):
            cut = gradient_norms(MMTabTrainer, None, tmp_path, kind, batch, 4 // batch)
            assert cut == pytest.approx(whole, rel=1e-5)
        assert gradient_norms(Trainer, TrainingArguments, tmp_path, kind, 2, 2) == pytest.approx(whole, rel=1e-5)
    elif kind != "bert_masked":  # a mean over few labels is not the mean of two means
        assert gradient_norms(MMTabTrainer, None, tmp_path, kind, 2, 2) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_the_first_batch_shows_what_a_head_does(kind):
    torch.manual_seed(0)
    model = MODELS[kind][0]().train()
    list(model.modules())[-1].eval()
    modes = [module.training for module in model.modules()]
    rows = [Rows(kind)[index] for index in range(4)]
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    state = torch.get_rng_state()
    assert uses_num_items(model, batch) is MODELS[kind][1]
    assert torch.equal(torch.get_rng_state(), state)
    assert modes == [module.training for module in model.modules()]
    if MODELS[kind][1]:
        assert uses_num_items(model, {**batch, "labels": torch.full_like(batch["labels"], -100)}) is None
