"""TabGPT: the original's numbers, saving, and rows that it generates."""

import pytest
import torch
from golden_tabbert import GOLDEN_FIELDS
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, GPT2LMHeadModel, LogitsProcessorList

from hf_mmtab.models.tabbert import TabGPT2Config, TabGPT2LMHeadModel
from hf_mmtab.models.tabbert.generating_tabgpt import FieldLogits

RANGES = [[4, 9], [9, 19], [19, 39]]
SIZES = ("n_positions", "n_embd", "n_head", "n_layer")
MASKS = (".attn.bias", ".attn.masked_bias")


def small_config(**changes):
    settings = {
        "fields": ["city", "amount", "shop"],
        "field_ranges": RANGES,
        "vocab_size": 39,
        "n_positions": 19,  # six rows
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
    }
    return TabGPT2Config(**{**settings, **changes})


@pytest.fixture
def small():
    torch.manual_seed(0)
    return TabGPT2LMHeadModel(small_config(initializer_range=0.5)).eval()


def random_rows(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(a, b, (rows,), generator=generator) for a, b in RANGES], dim=-1)


def test_logits_loss_and_gradients_are_the_originals(golden_original, golden_ranges, golden_expected):
    original, tensors, io = golden_original("gpt2")
    config = TabGPT2Config(
        fields=GOLDEN_FIELDS[:-1],
        field_ranges=golden_ranges[:-1],
        vocab_size=648,
        bos_token_id=5,
        **{name: original[name] for name in SIZES},
    )
    model = TabGPT2LMHeadModel(config).eval()
    model.load_state_dict({k: v for k, v in tensors.items() if not k.endswith(MASKS)}, strict=True)
    with torch.no_grad():
        logits = model(io["input_ids"]).logits
    torch.testing.assert_close(logits[:1], io["logits"], rtol=0, atol=1e-5)
    rows = io["input_ids"][:, 1:-1].view(2, 10, 11)
    outputs = model(rows, labels=rows)
    assert outputs.loss.item() == pytest.approx(golden_expected["gpt2"]["loss"], abs=1e-5)
    torch.testing.assert_close(outputs.field_losses.sum(), outputs.loss.detach())
    outputs.loss.backward()
    norms = golden_expected["gpt2"]["grad_norm"]
    found = {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    assert found == pytest.approx(norms, rel=1e-4)


def test_rows_and_sequences_are_scored_alike_and_padding_changes_nothing(small):
    rows = torch.stack([random_rows(4, 1), random_rows(4, 2)])
    sequence = torch.cat([torch.full((2, 1), small.config.bos_token_id), rows.flatten(1)], dim=1)
    with torch.no_grad():
        whole, logits = small(rows).field_logits, small(sequence).logits[:, :-1].view(2, 4, 3, -1)
        for field, (start, end) in enumerate(RANGES):
            torch.testing.assert_close(whole[field], logits[:, :, field, start:end])
        rows[1, 2:] = 0
        mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
        labels = rows.masked_fill(mask[..., None] == 0, -100)
        padded, alone = small(rows, mask, labels=labels), small(rows[1:, :2], labels=rows[1:, :2])
    torch.testing.assert_close(padded.field_loss_sums[1:], alone.field_loss_sums)
    assert padded.field_counts.tolist() == [[4, 4, 4], [2, 2, 2]]


def test_it_is_saved_and_found_by_the_auto_classes(small, tmp_path):
    small.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded, TabGPT2LMHeadModel) and loaded.config.max_rows == 6
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in small.state_dict().items())
    assert AutoConfig.from_pretrained(tmp_path).auto_map["AutoModelForCausalLM"].endswith("TabGPT2LMHeadModel")
    GPT2LMHeadModel(small_config(n_layer=1)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"keys are missing .* transformer.h.1"):
        TabGPT2LMHeadModel.from_pretrained(tmp_path, config=small.config)
    with pytest.raises(ValueError, match="Expected the processor with fingerprint a "):
        TabGPT2LMHeadModel(small_config(processor_fingerprint="a")).check_processor("b")


def test_cells_stay_in_their_field_and_follow_the_models_chances(small):
    rows = small.generate_rows([random_rows(0)] * 2000, rows=1, seed=5)
    with torch.no_grad():
        expected = small(rows[:1]).field_logits[0][0, 0].softmax(-1)
    shares = torch.bincount(rows[:, 0, 0] - 4, minlength=5) / 2000
    assert (shares - expected).abs().max() < 0.04  # three standard deviations
    for field, (start, end) in enumerate(RANGES):
        assert rows[..., field].ge(start).all() and rows[..., field].lt(end).all()


def test_a_history_is_continued_alike_alone_and_in_a_batch(small):
    past = [random_rows(2, 1), random_rows(0), random_rows(9, 2)]
    together = small.generate_rows(past, rows=11, seed=1)  # longer than a window
    for number, one in enumerate(past):
        alone = small.generate_rows([one], rows=11, seed=1, numbers=[number])
        assert torch.equal(alone[0], together[number])
    assert torch.equal(together[:, :4], small.generate_rows(past, rows=4, seed=1))
    assert not torch.equal(together, small.generate_rows(past, rows=11, seed=2))
    other = small.generate_rows([random_rows(2, 7), *past[1:]], rows=11, seed=1)
    assert not torch.equal(other[0], together[0])  # the past matters
    assert torch.equal(other[1:], together[1:])


def test_generation_agrees_with_scores_without_a_cache(small):
    past = random_rows(3, 3)
    made = small.generate_rows([past, past[:1]], rows=3, temperature=1e-6)  # the likeliest cells
    with torch.no_grad():
        for number, before in enumerate([past, past[:1]]):
            scores = small(torch.cat([before, made[number]])[None]).field_logits
            likeliest = torch.stack([s[0, len(before) :].argmax(-1) for s in scores], dim=-1)
            assert torch.equal(made[number], likeliest + torch.tensor([4, 9, 19]))


def test_forbidden_and_fixed_ids_hold(small):
    fixed = torch.tensor([[-1, -1, 25], [8, -1, -1]])
    made = small.generate_rows([random_rows(1)] * 2, rows=30, forbidden=[4, 5, 9], fixed=fixed)
    assert not torch.isin(made, torch.tensor([4, 5, 9])).any()
    assert made[0, :, 2].eq(25).all() and made[1, :, 0].eq(8).all() and made[1, :, 2].unique().numel() > 1


def test_generate_of_transformers_stays_in_the_fields_too(small):
    settings = GenerationConfig(do_sample=True, top_k=3, max_new_tokens=6, pad_token_id=0)
    prompt = torch.cat([torch.tensor([1]), random_rows(2).flatten()])[None]
    found = small.generate(
        prompt, generation_config=settings, logits_processor=LogitsProcessorList([FieldLogits(small.config)])
    )
    made = found[0, 7:].view(2, 3)
    assert all(made[:, i].ge(a).all() and made[:, i].lt(b).all() for i, (a, b) in enumerate(RANGES))


def test_the_smallest_and_the_largest_temperatures_draw_too(small):
    likeliest = small.generate_rows([random_rows(1)], rows=4, temperature=1e-6)
    assert torch.equal(small.generate_rows([random_rows(1)], rows=4, temperature=5e-324), likeliest)
    for temperature in (1e-300, 1e300, 1.7e308):
        found = small.generate_rows([random_rows(1)], rows=4, temperature=temperature)[0]
        assert all(found[:, i].ge(a).all() and found[:, i].lt(b).all() for i, (a, b) in enumerate(RANGES))


def test_what_does_not_fit_is_refused(small):
    with pytest.raises(ValueError, match=r"at most 6 rows, 3 fields\), found \(1, 7, 3\). Cut shorter"):
        small(random_rows(7)[None])
    with pytest.raises(ValueError, match="Expected labels beside rows"):
        small(torch.ones(1, 4, dtype=torch.long), labels=torch.ones(1, 4, dtype=torch.long))
    told = "Expected rows above 0, and a finite temperature above 0, found "
    with pytest.raises(ValueError, match=f"{told}0 and 1"):
        small.generate_rows([random_rows(1)], rows=0)
    for temperature in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"{told}1 and {temperature}"):
            small.generate_rows([random_rows(1)], rows=1, temperature=temperature)
    with pytest.raises(ValueError, match=r"Expected past rows of shape \(rows, 3\), found \(1, 2\)"):
        small.generate_rows([random_rows(1)[:, :2]], rows=1)
    with pytest.raises(ValueError, match="ids that column 'city' may get, found all of them forbidden"):
        small.generate_rows([random_rows(1)], rows=1, forbidden=range(4, 9))
    with pytest.raises(ValueError, match="Expected a TabGPT2Config with fields"):
        TabGPT2LMHeadModel(TabGPT2Config())
    for message, changes in {
        "Expected n_positions above 3, .* found 3": {"n_positions": 3},
        "Expected n_layer to be at least 1 and at most 1,000, found 10000000": {"n_layer": 10**7},
        "Expected n_embd to be at least 1 and at most 10,000,000, found 0": {"n_embd": 0},
        "Expected bos_token_id within 0 and vocab_size=39, found 39": {"bos_token_id": 39},
        "Expected field_ranges that do not overlap": {"field_ranges": [[4, 10], [9, 19], [19, 39]]},
    }.items():
        with pytest.raises(Exception, match=message):
            small_config(**changes)
