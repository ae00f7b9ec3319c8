"""New rows from a TabGPT checkpoint: inside the fields' values, after each history's past, decided by the seed."""

import numpy as np
import polars as pl
import pytest
import torch

from hf_mmtab import TabBertConfig, TabBertForMaskedLM, TabBertProcessor, TabGPT2Config, TabGPT2LMHeadModel
from hf_mmtab.commands.generate import main
from hf_mmtab.models.tabbert.drawn_rows import draw_rows

PLAN = {
    "entity": "who",
    "time": "when",
    "label": "odd",
    "fields": {
        "who": {"static": True},
        "when.hour": {"kind": "time_part", "part": "hour"},
        "when.gap": {"kind": "time_gap", "num_bins": 4},
        "shop": {},
        "amount": {"kind": "money", "num_bins": 4},
        "items": {"kind": "numeric", "num_bins": 3},
    },
}


def payments(rows=120):
    return pl.DataFrame(
        {
            "who": [f"w{i % 4}" for i in range(rows)],
            "when": pl.Series(range(rows)).cast(pl.Int64) * 3_600_000_000 * 5 // 4,
            "shop": [["bakery", "cinema", None][i * i % 3] for i in range(rows)],
            "amount": [0.5 + i % 17 for i in range(rows)],
            "items": [i * 7 % 23 for i in range(rows)],
        }
    ).with_columns(pl.col("when").cast(pl.Datetime("us")))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A TabGPT with random weights, its processor, and the table it knows."""
    folder = tmp_path_factory.mktemp("tabgpt")
    payments().write_csv(folder / "payments.csv")
    processor = TabBertProcessor(PLAN).fit(payments())
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 1 + 6 * 5}
    config = TabGPT2Config(**processor.config_kwargs(), bos_token_id=processor.bos_token_id, **sizes)
    TabGPT2LMHeadModel(config).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder


@pytest.fixture
def generate(run, tmp_path):
    """Run the command; return what it wrote."""

    def call(*options, name="out.parquet"):
        main([str(run / "model"), str(tmp_path / name), *map(str, options)])
        read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}
        return read[(tmp_path / name).suffix](tmp_path / name)

    return call


def test_histories_go_on_from_their_past(run, generate, capsys):
    made = generate("--condition", run / "payments.csv", "--rows", 12, "--seed", 3)
    assert "48 rows of 4 histories in" in capsys.readouterr().out
    assert made.columns == ["who", "when", "shop", "amount", "items"] and made.height == 48
    assert made["who"].to_list() == [f"w{i}" for i in range(4) for _ in range(12)]
    assert set(made["shop"]) <= {"bakery", "cinema", None}
    assert made["amount"].is_between(0.5, 16.5).all() and made["amount"].round(2).equals(made["amount"])
    assert made["items"].is_between(0, 22).all() and (made["items"] % 1 == 0).all()
    last = dict(payments().group_by("who").agg(pl.col("when").max()).iter_rows())
    for who, times in made.group_by("who").agg("when").iter_rows():
        assert [last[who], *times] == sorted([last[who], *times])


def test_what_is_generated_means_the_ids_that_were_drawn(run, generate):
    """Read back, gaps and hours are those of the ids, as far as both can hold."""
    made = generate("--condition", run / "payments.csv", "--rows", 5)
    processor = TabBertProcessor.from_pretrained(run / "model")
    before = payments().select(made.columns).cast(made.schema)
    encoded = pl.from_arrow(processor.encode(pl.concat([before, made])))[120:]
    for name, (start, end) in zip(processor.fields, processor.value_ranges(), strict=True):
        values = encoded[name]
        assert (values.is_between(start, end - 1) | (name == "shop")).all(), name


def test_the_seed_decides_and_the_batch_does_not(run, generate):
    given = ["--condition", run / "payments.csv", "--rows", 7, "--seed", 1]
    first = generate(*given, name="a.parquet")
    assert first.equals(generate(*given, "--batch_size", 3, name="b.parquet"))
    assert not first.equals(generate(*given[:-1], 2, name="c.parquet"))


def test_every_kind_of_number_lies_in_its_bin_and_fills_are_null():
    rows = {
        "t": [1e9 + 1e5 * i * i for i in range(60)],
        "price": [float(i * i) for i in range(60)],
        "dollars": [0.25 * i for i in range(60)],
        "state": [("FL", None)[i % 2] for i in range(60)],
    }
    fields = {
        "t": {"kind": "numeric", "transform": "minmax", "num_bins": 5, "binning": "original"},
        "price": {"kind": "numeric", "transform": "log1p", "num_bins": 5},
        "dollars": {"kind": "money", "transform": "log_floor_1", "num_bins": 5, "binning": "original"},
        "state": {"fill": "None"},
        "signed": {"kind": "sign", "column": "price"},
    }
    processor = TabBertProcessor({"fields": fields}).fit(rows)
    encoded = processor.encode(rows)
    ids = np.stack([encoded[name].to_numpy() for name in processor.fields], axis=1)[None]
    drawn = draw_rows(processor, ids, np.zeros(1))
    again = processor.encode(drawn)
    for name in ("t", "price", "dollars", "state"):
        assert again[name].equals(encoded[name]), name
        assert name == "state" or not np.allclose(drawn[name].to_numpy(), rows[name])
    assert drawn["state"].to_pylist() == rows["state"]


def test_named_histories_go_on_or_begin(run, generate):
    chosen = generate("--condition", run / "payments.csv", "--entities", "w3", "w1", "--rows", 2)
    assert chosen["who"].to_list() == ["w1", "w1", "w3", "w3"]
    new = generate("--entities", "anna", "--rows", 3, "--start", "2030-02-01", name="new.csv")
    assert new["who"].to_list() == ["anna"] * 3 and new["when"].min() > "2030-02-01"
    assert generate("--rows", 1, name="one.jsonl")["who"].to_list() == ["new"]


def test_what_cannot_be_is_told(run, tmp_path):
    model, table, out = str(run / "model"), str(run / "payments.csv"), str(tmp_path / "o.csv")
    cases = {
        r"Expected histories of nobody in .*, found none\. There are w0": [
            "--condition",
            table,
            "--entities",
            "nobody",
        ],
        "Expected each name of --entities once, found n1 n1": ["--entities", "n1", "n1"],
        "Expected --start for new histories alone": ["--condition", table, "--start", "2020-01-01"],
    }
    for message, options in cases.items():
        with pytest.raises(ValueError, match=message):
            main([model, out, *options])
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"Expected a new file to write, found .*mine\.csv"):
        main([model, str(tmp_path / "mine.csv")])
    processor = TabBertProcessor.from_pretrained(model)
    TabBertForMaskedLM(TabBertConfig(**processor.config_kwargs())).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"Expected a TabGPT in .*bert', found a model of type 'tabbert'"):
        main([str(tmp_path / "bert"), out])
    assert not (tmp_path / "o.csv").exists()
