"""Numbers and calendar parts whose vectors are functions of their numbers."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F

from hf_mmtab.models.tabbert import (
    TabBertCollator,
    TabBertConfig,
    TabBertForMaskedLM,
    TabBertLstmForSequenceClassification,
    TabBertProcessor,
)

PLAN = {
    "entity": "who",
    "time": "at",
    "fields": {
        "amount": {"kind": "numeric", "num_bins": 16},
        "shop": {},
        "hour": {"kind": "time_part", "column": "at", "part": "hour"},
    },
}
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SIZES |= {"field_hidden_size": 8, "field_num_heads": 2}


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    start = dt.datetime(2020, 1, 1)
    return pl.DataFrame(
        {
            "who": ["a"] * 600,
            "at": [start + dt.timedelta(minutes=37 * i) for i in range(600)],
            "amount": rng.lognormal(3, 1, 600),
            "shop": rng.choice(list("abc"), 600),
        }
    )


@pytest.fixture(scope="module")
def processor(rows) -> TabBertProcessor:
    return TabBertProcessor(PLAN).fit(rows)


@pytest.fixture(scope="module")
def ids(rows, processor) -> torch.Tensor:
    encoded = processor.encode(rows)
    return torch.tensor(np.stack([column.to_numpy() for column in encoded.columns], axis=1).astype(np.int64))


def model_of(processor, numeric, kind=TabBertForMaskedLM, **more):
    torch.manual_seed(0)
    return kind(TabBertConfig(**processor.config_kwargs(numeric), **SIZES, **more)).eval()


def test_bins_lie_on_the_scale_of_a_normal_distribution(rows, processor):
    config = TabBertConfig(**processor.config_kwargs("both"), **SIZES)
    places = config.bin_numbers["amount"]
    # equal bins: the middle of bin k of 16 is the quantile (k + 1/2) / 16
    expected = torch.special.ndtri((torch.arange(16, dtype=torch.float64) + 0.5) / 16)
    assert places == pytest.approx(expected.tolist(), abs=0.02)
    assert config.cycle_ranges == {"hour": [processor.value_ranges()[2][0], processor.field_ranges[2][1]]}
    plain = TabBertConfig(**processor.config_kwargs(), **SIZES)
    assert (plain.numeric, plain.bin_numbers, plain.cycle_ranges) == ("bins", None, None)


def test_vectors_are_waves_of_the_numbers_in_closed_form(processor):
    model = model_of(processor, "embedding")
    embeddings, config = model.model.embeddings, model.config
    own = embeddings.numbers
    start, end = config.numeric_ranges["amount"]
    places = torch.tensor(config.bin_numbers["amount"])
    phases = 2 * torch.pi * torch.outer(places, own.frequencies[0])
    expected = torch.cat([phases.cos(), phases.sin()], dim=1) @ own.weight[0]
    assert torch.allclose(embeddings.vectors[start:end], expected, atol=1e-6)
    start, end = config.cycle_ranges["hour"]
    hours = embeddings.vectors[start:end]  # a closed circle: from 23 h to 0 h is a step like all others
    turned = 2 * torch.pi * torch.outer(torch.arange(24) / 24 + 1, torch.arange(1, 9))
    assert torch.allclose(hours, torch.cat([turned.cos(), turned.sin()], dim=1) @ own.weight[1], atol=1e-5)
    words = embeddings.word_embeddings.weight
    assert torch.equal(embeddings.vectors[:4], words[:4])  # [PAD], [CLS], [SEP], [MASK] have no number
    unknown = processor.unknown_ids()
    assert torch.equal(embeddings.vectors[unknown], words[unknown])


def test_both_adds_to_what_each_id_has_of_its_own(processor):
    alone, both = model_of(processor, "embedding"), model_of(processor, "both")
    both.load_state_dict(alone.state_dict())
    embeddings = both.model.embeddings
    start, end = both.config.numeric_ranges["amount"]
    own = embeddings.word_embeddings.weight[start:end]
    assert torch.allclose(embeddings.vectors[start:end] - own, alone.model.embeddings.vectors[start:end], atol=1e-6)
    # as large as those of the ids at the start
    assert embeddings.vectors[start:end].std().item() == pytest.approx(2**0.5 * 0.02, rel=0.4)


@pytest.mark.parametrize("numeric", ["embedding", "both"])
@pytest.mark.parametrize("more", [{}, {"next_row": True}, {"tie_word_embeddings": False}, {"flatten": True}])
def test_cells_are_embedded_and_scored_with_the_same_vectors_and_all_are_trained(processor, ids, numeric, more):
    model = model_of(processor, numeric, **more)
    collator = TabBertCollator(processor, mlm=True, mlm_probability=0.5, next_row=bool(more.get("next_row")), seed=1)
    batch = collator([{"input_ids": ids[first : first + 20].numpy()} for first in (0, 20, 40, 60)])
    embedded = model.model.embeddings(batch["input_ids"])
    assert torch.allclose(embedded, F.embedding(batch["input_ids"], model.model.embeddings.vectors))
    outputs = model(**batch)
    outputs.loss.backward()
    moved = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {f"model.embeddings.numbers.{name}" for name in ("frequencies", "weight")} <= moved


def test_one_step_on_a_bin_moves_its_neighbours_too(processor, ids):
    model = model_of(processor, "both")
    start, end = model.config.numeric_ranges["amount"]
    before = model.model.embeddings.vectors[start:end].detach().clone()
    optimizer = torch.optim.SGD(model.model.embeddings.parameters(), lr=1.0)
    model.model.embeddings(torch.tensor([[[start + 8]]])).sum().backward()
    optimizer.step()
    moved = (model.model.embeddings.vectors[start:end] - before).detach().norm(dim=1)
    assert moved.argmax() == 8 and moved[[7, 9]].min() > moved[[0, 15]].max() > 0


def test_a_saved_model_answers_the_same_and_a_head_takes_its_encoder(processor, ids, tmp_path):
    model = model_of(processor, "both", next_row=True)
    model.save_pretrained(tmp_path / "encoder")
    again = TabBertForMaskedLM.from_pretrained(tmp_path / "encoder").eval()
    windows = ids[None, :30]
    assert torch.equal(again.model(windows).last_hidden_state, model.model(windows).last_hidden_state)
    head = TabBertLstmForSequenceClassification.from_pretrained_encoder(
        str(tmp_path / "encoder"), processor.fingerprint, row_inputs="both"
    ).eval()
    assert head.config.numeric == "both"
    assert torch.equal(head.model.embeddings.vectors, model.model.embeddings.vectors)
    head.save_pretrained(tmp_path / "head")
    loaded = TabBertLstmForSequenceClassification.from_pretrained(tmp_path / "head").eval()
    assert torch.equal(loaded(windows).logits, head(windows).logits)


def test_a_table_without_numbers_or_numbers_of_other_bins_are_refused(processor):
    kwargs = processor.config_kwargs("both")
    shorter = {"amount": kwargs["bin_numbers"]["amount"][:-1]}
    with pytest.raises(StrictDataclassError, match=r"in bin_numbers for each bin of column 'amount' .* found 15"):
        TabBertConfig(**{**kwargs, "bin_numbers": shorter})
    for wrong, told in (
        ({"amount": [float("nan")] * 16}, "a finite number in bin_numbers"),
        ({"foo": []}, "found 'foo'"),
    ):
        with pytest.raises(StrictDataclassError, match=told):
            TabBertConfig(**{**kwargs, "bin_numbers": wrong})
    with pytest.raises(StrictDataclassError, match=r"cycle_ranges inside the ids of .* found \[0, 9\] of 'hour'"):
        TabBertConfig(**{**kwargs, "cycle_ranges": {"hour": [0, 9]}})
    words = TabBertProcessor({"entity": "who", "fields": {"shop": {}}}).fit({"who": ["a", "a"], "shop": ["x", "y"]})
    with pytest.raises(StrictDataclassError, match=r"numeric='both' needs bin_numbers or cycle_ranges"):
        TabBertConfig(**words.config_kwargs("both"))


@pytest.mark.parametrize("numeric", ["embedding", "both"])
def test_vectors_stay_those_of_their_columns_whatever_their_names(rows, tmp_path, numeric):
    """transformers sorts the keys of a saved configuration."""
    fields = {
        "z.weekday": {"kind": "time_part", "column": "at", "part": "weekday"},
        "z": {"kind": "numeric", "column": "amount", "num_bins": 9},
        "a": {"kind": "numeric", "column": "other", "num_bins": 5},
        "a.hour": {"kind": "time_part", "column": "at", "part": "hour"},
    }
    table = rows.with_columns(other=pl.col("amount").reverse())
    model = model_of(TabBertProcessor({**PLAN, "fields": fields}).fit(table), numeric)
    model.save_pretrained(tmp_path)
    again = TabBertForMaskedLM.from_pretrained(tmp_path)
    assert list(again.config.bin_numbers) == ["a", "z"] and list(model.config.bin_numbers) == ["z", "a"]
    assert torch.equal(again.model.embeddings.vectors, model.model.embeddings.vectors)
