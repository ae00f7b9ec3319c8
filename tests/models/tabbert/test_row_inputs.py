"""What heads read of a row beside states: sums of surprise, and statistics as numbers on one scale."""

import re

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassClassValidationError

from hf_mmtab.models.tabbert import TabBertForMaskedLM, TabBertLstmForSequenceClassification
from hf_mmtab.models.tabbert.modeling_tabbert_numbers import (
    EMBEDDING_SIZE,
    FARTHEST,
    FREQUENCIES,
    TabBertPeriodicNumbers,
    normal_quantiles,
    normal_scores,
)
from hf_mmtab.models.tabbert.modeling_tabbert_surprise import TabBertSurprise, surprise_names, windowed_names

MINUTE = 60_000_000


def test_numbers_lie_on_the_scale_of_a_normal_distribution_and_missing_ones_in_its_middle():
    values = torch.exp(torch.randn(50_000, 1, generator=torch.Generator().manual_seed(0)))
    quantiles = normal_quantiles(values)
    normal = torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0])
    torch.testing.assert_close(normal_scores(normal.exp()[:, None], quantiles)[:, 0], normal, atol=0.06, rtol=0)
    ends = normal_scores(torch.tensor([[-1.0], [1e9], [torch.nan]]), quantiles)[:, 0]
    assert ends.tolist() == [-FARTHEST, FARTHEST, 0.0]
    counts = torch.tensor([[0.0]] * 50 + [[1.0]] * 50)  # equal values share the middle of their ranks
    found = normal_scores(torch.tensor([[0.0], [1.0]]), normal_quantiles(counts))[:, 0].tolist()
    assert found[0] == pytest.approx(-found[1], abs=0.15) and found[0] < -1
    assert normal_scores(torch.zeros(2, 1), normal_quantiles(torch.full((5, 1), torch.nan))).isfinite().all()


def test_surprise_is_summed_over_the_last_hour_day_and_rows(small_config):
    config = small_config(next_row=True, row_inputs="surprise")
    surprise = torch.zeros(1, 4, config.surprise_width)
    surprise[0, :, :3] = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [4.0, 0, 0], [8.0, 0, 1.0]])
    times = torch.tensor([[0, 30, 61, 60 * 25]]) * MINUTE
    found = TabBertSurprise(config).windowed(surprise, times)[0].expm1()
    names = windowed_names(config)
    assert found.shape == (4, len(names)) and len(surprise_names(config)) == config.surprise_width

    def column(name):
        return pytest.approx(found[:, names.index(name)].tolist(), abs=1e-5)

    assert column("surprise of city, last hour") == [1, 1, 4, 8]  # exactly an hour ago would be out
    assert column("surprise of all, last hour") == [1, 3, 6, 9]
    assert column("surprise of all, last day") == [1, 3, 7, 13]
    assert column("surprise of city, last 3 rows") == [1, 1, 5, 12]
    assert column("surprise of all, last 10 rows") == [1, 3, 7, 16]


def test_a_head_reads_any_mix_and_codes_of_categories_are_left_to_trees(small_config, small_batch):
    parts = ["statistics", "states", "windowed_surprise"]
    config = small_config(next_row=True, row_inputs=parts, statistics=["code", "a", "b"], statistics_codes=1)
    model = TabBertLstmForSequenceClassification(config).eval()
    assert config.row_parts == ("states", "windowed_surprise", "statistics")
    assert model.lstm.input_size == config.row_width == config.hidden_size + 4 * 4 + config.statistics_hidden_size
    ids = small_batch["input_ids"]
    model.numbers.learn_quantiles(torch.randn(100, 3, generator=torch.Generator().manual_seed(0)))
    statistics = torch.randn(*ids.shape[:2], 3, generator=torch.Generator().manual_seed(1))
    times = torch.arange(ids.shape[1]).expand(ids.shape[:2]) * MINUTE
    given = {"times": times, "attention_mask": small_batch.get("attention_mask")}
    first = model(ids, statistics=statistics, **given).logits
    torch.testing.assert_close(model(ids, statistics=statistics + torch.tensor([9.0, 0, 0]), **given).logits, first)
    assert not torch.allclose(model(ids, statistics=statistics + torch.tensor([0, 9.0, 0]), **given).logits, first)
    states = model.get_row_states(ids, given["attention_mask"], times)
    mask = model.row_mask(ids) if given["attention_mask"] is None else given["attention_mask"]
    again = model(row_states=states, attention_mask=mask, statistics=statistics).logits
    torch.testing.assert_close(again, first)


def test_periodic_numbers_are_waves_of_each_number_apart():
    embedding = TabBertPeriodicNumbers(2)
    with torch.no_grad():
        embedding.frequencies.copy_(torch.tensor([[0.25], [0.5]]).expand(2, FREQUENCIES))
        embedding.weight.zero_()
        embedding.weight[:, 0, 0] = embedding.weight[:, FREQUENCIES, 1] = 1.0  # the first cosine, the first sine
        embedding.bias.zero_()
        embedding.bias[1, 2] = 2.0
    found = embedding(torch.tensor([[[0.0, 0.5], [1.0, -0.5]]]))[0].view(2, 2, EMBEDDING_SIZE)  # row, number, width
    expected = torch.zeros(2, 2, EMBEDDING_SIZE)
    expected[0, 0, 0] = 1.0  # cos 0
    expected[1, 0, 1] = 1.0  # sin π/2
    expected[0, 1, 1] = 1.0  # the second number's sin π/2; sin -π/2 is cut off by ReLU
    expected[:, 1, 2] = 2.0
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_head_on_periodic_numbers_starts_with_small_frequencies_and_is_saved_with_them(
    small_config, small_batch, tmp_path
):
    TabBertForMaskedLM(small_config(next_row=True)).save_pretrained(tmp_path / "encoder")
    given = {"row_inputs": ["states", "statistics"], "statistics": ["code", "a", "b"], "statistics_codes": 1}
    build = TabBertLstmForSequenceClassification.from_pretrained_encoder
    model = build(tmp_path / "encoder", statistics_embedding="periodic", **given).eval()
    own = model.numbers.embedding
    assert own.frequencies.abs().max() <= 0.3 and own.frequencies.std() > 0.03
    assert own.weight.abs().max() <= (2 * FREQUENCIES) ** -0.5 and own.weight.std() > 0.1
    assert model.numbers.projection.in_features == 2 * (EMBEDDING_SIZE + 1)
    model.numbers.learn_quantiles(torch.randn(100, 3, generator=torch.Generator().manual_seed(0)))
    ids, mask = small_batch["input_ids"], small_batch["attention_mask"]
    numbers = torch.randn(*ids.shape[:2], 3, generator=torch.Generator().manual_seed(1))
    first = model(ids, attention_mask=mask, statistics=numbers).logits
    missing = numbers.clone()
    missing[..., 1] = torch.nan
    other = model(ids, attention_mask=mask, statistics=missing).logits
    assert other.isfinite().all() and not torch.allclose(other, first)
    model.save_pretrained(tmp_path / "head")
    again = TabBertLstmForSequenceClassification.from_pretrained(tmp_path / "head").eval()
    torch.testing.assert_close(again(ids, attention_mask=mask, statistics=numbers).logits, first)
    # a head that is put on this one's encoder starts with the plain scale again, unless it asks for waves
    assert not hasattr(build(tmp_path / "head", **given).numbers, "embedding")


@pytest.mark.parametrize("inputs", ["states", "surprise"])
def test_the_auxiliary_loss_is_that_of_pretraining_and_trains_the_encoder(small_config, small_batch, tmp_path, inputs):
    torch.manual_seed(0)
    pretrained = TabBertForMaskedLM(small_config(next_row=True)).eval()
    pretrained.save_pretrained(tmp_path)
    build = TabBertLstmForSequenceClassification.from_pretrained_encoder
    given = {"label_level": "row", "row_inputs": inputs, "lstm_hidden_size": 4}
    given |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "field_dropout_prob"), 0.0)
    model = build(tmp_path, auxiliary_next_row=0.3, **given)
    ids, mask = small_batch["input_ids"], small_batch["attention_mask"]
    labels = torch.where(mask.bool(), torch.arange(ids.shape[1]) % 2, -100)
    with torch.no_grad():
        logits = pretrained(ids, attention_mask=mask).field_logits
    total = count = 0.0
    for field, (start, end) in enumerate(pretrained.config.field_ranges):
        target = ids[..., field] - start
        losses = F.cross_entropy(
            logits[field].flatten(0, 1), target.flatten().clamp(0, end - start - 1), reduction="none"
        )
        real = (mask.bool() & (target >= 0) & (target < end - start)).flatten()
        total, count = total + losses[real].sum(), count + mask.sum()
    alone = model.eval()(ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(
        model.train()(ids, attention_mask=mask, labels=labels).loss - alone.loss, 0.3 * total / count
    )
    # a stored encoder's outputs, and evaluation, have the loss of the labels alone
    states = model.get_row_states(ids, mask).detach()
    torch.testing.assert_close(model(row_states=states, attention_mask=mask, labels=labels).loss, alone.loss)
    model.zero_grad()
    model.next_row_loss(model.get_row_states(ids, mask), mask).backward()
    assert model.model.row_encoder.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0
    # it changes nothing but the loss, and another head on this encoder starts without it
    plain = build(tmp_path, **given)
    assert not plain.load_state_dict(model.state_dict(), strict=False).missing_keys
    torch.testing.assert_close(plain.eval()(ids, attention_mask=mask).logits, alone.logits)
    model.save_pretrained(tmp_path / "head")
    again = TabBertLstmForSequenceClassification.from_pretrained(tmp_path / "head").eval()
    torch.testing.assert_close(again(ids, attention_mask=mask).logits, alone.logits)
    assert build(tmp_path / "head", **given).config.auxiliary_next_row == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row_inputs": ["states", "prices"]}, "Expected row_inputs among .*, found prices"),
        ({"auxiliary_next_row": 0.1}, "above 0 it needs an encoder that was pretrained to predict the next row"),
        ({"auxiliary_next_row": -1.0, "next_row": True}, "a weight of at least 0"),
        ({"row_inputs": []}, "Expected row_inputs to name some of"),
        ({"row_inputs": "statistics"}, "needs their names"),
        ({"row_inputs": ["windowed_surprise"]}, "needs an encoder that was pretrained to predict the next row"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(small_config, changes, message):
    with pytest.raises((ValueError, StrictDataclassClassValidationError)) as error:
        small_config(**changes)
    text = f"{error.value} {error.value.__cause__}"
    assert re.search(message, text), text
