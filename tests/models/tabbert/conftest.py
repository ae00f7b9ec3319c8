"""Columns of the golden TabFormer vocabulary, and a small table of our own."""

import json

import pytest
import torch
from golden_tabbert import GOLDEN_FIELDS
from safetensors.torch import load_file

from hf_mmtab.models.tabbert.configuration_tabbert import TabBertConfig


@pytest.fixture(scope="session")
def tabformer(golden):
    return golden / "tabformer"


@pytest.fixture(scope="session")
def golden_ranges(tabformer):
    """Range of each column in the original's ids."""
    lines = (tabformer / "vocab20k" / "vocab.nb").read_text().splitlines()
    owners = [line.rpartition("_")[0] if not line.startswith("SPECIAL_") else "SPECIAL" for line in lines]
    ranges = []
    for name in GOLDEN_FIELDS:
        places = [place for place, owner in enumerate(owners) if owner == name]
        assert places == list(range(places[0], places[-1] + 1))
        ranges.append([places[0], places[-1] + 1])
    return ranges


@pytest.fixture(scope="session")
def golden_expected(tabformer):
    return json.loads((tabformer / "expected.json").read_text())


@pytest.fixture
def golden_original(tabformer):
    """Read an original model's config, tensors and recorded numbers."""

    def read(name):
        folder = tabformer / name
        original = json.loads((folder / "config.json").read_text())
        return original, load_file(folder / "model.safetensors"), load_file(folder / "io.safetensors")

    return read


@pytest.fixture
def small_config():
    """Build the config of three columns: city (ids 4-8), amount (9-18, eight bins), shop (19-38)."""

    def build(**changes):
        settings = {
            "fields": ["city", "amount", "shop"],
            "field_ranges": [[4, 9], [9, 19], [19, 39]],
            "vocab_size": 39,
            "field_hidden_size": 8,
            "field_num_heads": 2,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": 32,
        }
        return TabBertConfig(**{**settings, **changes})

    return build


@pytest.fixture
def small_batch():
    """Two windows of five rows, the second with two padded rows; four masked cells, none in `city`."""
    torch.manual_seed(3)
    ids = torch.stack(
        [torch.randint(4, 9, (2, 5)), torch.randint(11, 19, (2, 5)), torch.randint(19, 39, (2, 5))], dim=-1
    )
    mask = torch.ones(2, 5, dtype=torch.long)
    ids[1, 3:], mask[1, 3:] = 0, 0
    labels = torch.full_like(ids, -100)
    for where in [(0, 1, 1), (0, 4, 2), (1, 0, 1), (1, 2, 2)]:
        labels[where] = ids[where]
        ids[where] = 3
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
