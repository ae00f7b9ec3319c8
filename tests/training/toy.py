"""A small picture-and-words model with everything that training/ asks of a model, and data for it."""

import hashlib

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments


class ToyConfig(PreTrainedConfig):
    model_type = "toy_mm"

    def __init__(self, hidden=8, layers=3, dropout=0.1, num_labels=3, batch_norm=True, **kwargs):
        self.hidden, self.layers, self.dropout, self.batch_norm = hidden, layers, dropout, batch_norm
        super().__init__(num_labels=num_labels, **kwargs)


class ToyLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.norm = nn.LayerNorm(config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states):
        return self.norm(states + self.dropout(torch.tanh(self.dense(states))))


class ToyImageModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.hidden

        def stage(channels, stride):
            norm = nn.BatchNorm2d(width) if config.batch_norm else nn.GroupNorm(2, width)
            return nn.Sequential(nn.Conv2d(channels, width, 3, stride=stride, bias=False), norm, nn.ReLU())

        self.stem = stage(3, 2)
        self.stages = nn.ModuleList([stage(width, 1) for _ in range(2)])

    def forward(self, pixel_values):
        states = self.stem(pixel_values)
        for stage in self.stages:
            states = stage(states)
        return states


class ToyModel(PreTrainedModel):
    config_class = ToyConfig
    accepts_loss_kwargs = False
    _no_split_modules = ("ToyLayer",)

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = nn.Embedding(20, config.hidden)
        self.projection = nn.Linear(config.hidden, config.hidden)
        self.encoder = nn.ModuleList([ToyLayer(config) for _ in range(config.layers)])
        self.image_model = ToyImageModel(config)
        self.pooler = nn.Linear(config.hidden, config.hidden)
        self.classifier = nn.Linear(config.hidden, config.num_labels)
        self.image_calls = 0
        self.post_init()

    def get_input_embeddings(self):
        return self.embeddings

    @property
    def freezable_modules(self):
        return {"text_encoder": "encoder", "image_encoder": "image_model"}

    @property
    def cacheable_features(self):
        return {
            "image_encoder": {"inputs": ["pixel_values"], "output": "image_regions", "method": "get_image_features"}
        }

    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
            module.weight.data.normal_(0.0, 0.3)

    def get_image_features(self, pixel_values):
        self.image_calls += 1
        return self.image_model(pixel_values).mean(dim=(2, 3))  # (batch, hidden)

    def forward(self, input_ids, pixel_values=None, image_regions=None, labels=None):
        if image_regions is None:
            image_regions = self.get_image_features(pixel_values)
        states = torch.cat([self.projection(image_regions)[:, None], self.embeddings(input_ids)], dim=1)
        for layer in self.encoder:
            states = layer(states)
        logits = self.classifier(torch.tanh(self.pooler(states.mean(dim=1))))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class ToyRows(torch.utils.data.Dataset):
    """Rows with a picture, words and a label; `random` redraws the picture at each call."""

    def __init__(self, rows=32, seed=0, random=False, skip=frozenset()):
        generator = torch.Generator().manual_seed(seed)
        self.pictures = torch.randn(rows, 3, 12, 12, generator=generator)
        self.words = torch.randint(0, 20, (rows, 5), generator=generator)
        self.labels = torch.randint(0, 3, (rows,), generator=generator)
        self.seed, self.random, self.skip = seed, random, frozenset(skip)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        row = {"input_ids": self.words[index], "labels": self.labels[index]}
        if "pixel_values" not in self.skip:
            noise = torch.randn(3, 12, 12) if self.random else 0.0
            row["pixel_values"] = self.pictures[index] + noise
        return row

    def without(self, names):
        return ToyRows(len(self), self.seed, self.random, self.skip | set(names))

    @property
    def fingerprint(self):
        return hashlib.sha256(f"{self.seed}-{len(self)}".encode()).hexdigest()


def toy_model(seed=0, **config):
    torch.manual_seed(seed)
    return ToyModel(ToyConfig(**config))


def toy_arguments(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "show_freeze_report": False,
        "feature_cache": False,
        "audit_steps": 1,
        "audit_plot": False,
        "seed": 0,
    }
    return MMTabTrainingArguments(**{**settings, **changes})


def toy_trainer(folder, model=None, rows=32, trainer_options=None, **changes):
    model = toy_model() if model is None else model
    options = {"train_dataset": ToyRows(rows), "eval_dataset": ToyRows(12, seed=1)}
    options |= trainer_options or {}
    return MMTabTrainer(model=model, args=toy_arguments(folder, **changes), **options)


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(before, after, prefix):
    """Largest absolute change of the tensors whose name starts with `prefix`."""
    names = [name for name in before if name.startswith(prefix)]
    assert names, prefix
    return max((after[name].double() - before[name].double()).abs().max().item() for name in names)


def largest_difference(first, second):
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)
