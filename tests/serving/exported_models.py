"""Small random models to export, and a history of a table."""

from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, ViTConfig, ViTImageProcessorPil, ViTModel

from hf_mmtab import MMBTForClassification, MMBTProcessor, TabBertConfig, TabBertProcessor
from hf_mmtab.models.mmbt import MMBTImageProcessor
from hf_mmtab.models.tabbert import TabBertLstmForSequenceClassification
from hf_mmtab.models.tabbert.modeling_tabbert_boosted import STATISTICS, TabBertBoostedForSequenceClassification
from hf_mmtab.statistics import RowStatistics, columns_of_history

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sea", "land", "a", "the", "old", "new", "of", "in"]
_RNG = np.random.default_rng(0)
HISTORY = [
    {
        "who": 1,
        "when": f"2024-05-{1 + day // 2:02d}T{int(_RNG.integers(0, 12)) + 12 * (day % 2):02d}:30:00",
        "amount": round(float(_RNG.normal()), 2),
        "shop": f"shop {_RNG.integers(0, 5)}",
    }
    for day in range(40)
]


def _spread(model: torch.nn.Module) -> None:
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "image_model" not in name:
            torch.nn.init.normal_(weight, std=0.3)  # so that examples differ


def save_table(folder: Path, **settings) -> str:
    """Save a TabBERT that reads surprise and states, and its processor; returns the folder."""
    plan = {
        "entity": "who",
        "time": "when",
        "fields": {
            "hour": {"kind": "time_part", "column": "when", "part": "hour"},
            "gap": {"kind": "time_gap", "num_bins": 5},
            "amount": {"kind": "money", "num_bins": 8},
            "shop": {},
        },
    }
    rows = [{**row, "when": np.datetime64(row["when"], "us").item()} for row in HISTORY]
    processor = TabBertProcessor(plan).fit(pa.Table.from_pylist(rows))
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 32}
    sizes |= {"field_hidden_size": 8, "field_num_heads": 2, "seq_len": 6}
    head = {"next_row": True, "row_inputs": "both", "threshold": 0.4}
    config = TabBertConfig(**processor.config_kwargs(), **sizes, **head, **settings)
    model = TabBertLstmForSequenceClassification(config).eval()
    _spread(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def save_boosted(folder: Path) -> str:
    """Save boosted trees on statistics of `HISTORY`, fitted on chance, and their processor; returns the folder."""
    rows = pa.Table.from_pylist([{**row, "when": np.datetime64(row["when"], "us").item()} for row in HISTORY])
    plan = {"entity": "who", "time": "when", "fields": {"amount": {"kind": "money", "num_bins": 8}, "shop": {}}}
    processor = TabBertProcessor(plan).fit(rows)
    columns = columns_of_history(rows, processor)
    statistics = RowStatistics.fit(columns, np.ones(len(rows), dtype=bool))
    processor.statistics, values = statistics.to_dict(), np.array(statistics.table(columns))
    data = lightgbm.Dataset(values, label=np.arange(len(rows)) % 3 == 0)
    settings = {"objective": "binary", "min_data_in_leaf": 2, "verbose": -1, "num_threads": 1}
    names = {"statistics": statistics.names, "statistics_codes": statistics.categorical}
    config = TabBertConfig(**processor.config_kwargs(), **names, label_level="row", seq_len=6, threshold=0.4)
    model = TabBertBoostedForSequenceClassification(config)
    model.set_trees(STATISTICS, [lightgbm.train(settings, data, num_boost_round=20)])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def save_pairs(folder: Path, legacy: bool = False) -> str:
    """Save an MMBT and its processor, with pictures of the original's size or of 32 × 32; returns the folder."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **sizes)
    BertModel(config).save_pretrained(folder / "text")
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = Lowercase(), Whitespace()
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    tokenizer.save_pretrained(folder / "text")
    side = 224 if legacy else 32
    ViTModel(ViTConfig(**sizes, image_size=side, patch_size=side // 4)).save_pretrained(folder / "image")
    model = MMBTForClassification.from_text_image_pretrained(
        str(folder / "text"), str(folder / "image"), num_labels=3, id2label={0: "calm", 1: "wild", 2: "dry"}
    )
    _spread(model)
    model.save_pretrained(folder / "model")
    image_processor = MMBTImageProcessor() if legacy else ViTImageProcessorPil(size={"height": 32, "width": 32})
    kept = {"missing_image": "grey", "transparency": "drop", "upright": False} if legacy else {}
    MMBTProcessor(image_processor, tokenizer, max_length=16, **kept).save_pretrained(folder / "model")
    return str(folder / "model")
