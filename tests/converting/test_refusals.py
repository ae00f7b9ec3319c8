"""What a checkpoint or an option claims and cannot be is refused early, in words, and nothing is written."""

import argparse
import importlib
import json
import pickle
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import BertTokenizer

from hf_mmtab.commands.console import run
from hf_mmtab.commands.convert_checkpoint import main
from hf_mmtab.commands.eval_checkpoint import main as evaluate
from hf_mmtab.converting.mmbt_args import run_from_args
from hf_mmtab.converting.mmbt_run import convert_run
from hf_mmtab.converting.original_files import (
    read_encoders,
    read_labels,
    read_mmbt_run,
    read_vocabulary,
    read_words,
    require_numbers,
)
from hf_mmtab.converting.tabformer_run import convert_tabformer
from hf_mmtab.converting.to_ours import load_tokenizer
from hf_mmtab.converting.writing import require_empty, write_whole

LABELS = ["L0", "L1", "L2", "L3", "L4"]
ARGS = {
    "model": "mmbt",
    "task": "mmimdb",
    "task_type": "multilabel",
    "labels": LABELS,
    "num_image_embeds": 3,
    "img_embed_pool_type": "avg",
    "max_seq_len": 40,
}


@pytest.fixture
def mmbt(golden):
    """Tensors and args of the original's MMBT."""
    words = (golden / "mmbt" / "vocab.txt").read_text().splitlines()
    return load_file(golden / "mmbt" / "mmbt_init.safetensors"), {**ARGS, "words": words}


@pytest.fixture
def table(golden):
    """Parts of a TabFormer model by name, as `convert_tabformer` takes them; changed by the tests."""
    folder = golden / "tabformer"
    tokens = read_vocabulary(folder / "vocab20k" / "vocab.nb")
    encoders = read_encoders(folder / "vocab20k" / "encoder_fit.pkl")

    def read(name):
        config = json.loads((folder / name / "config.json").read_text())
        return config, load_file(folder / name / "model.safetensors"), tokens, encoders

    return read


# --- MMBT


@pytest.mark.parametrize(
    ("name", "dims"),
    [("clf.weight", 2), ("enc.img_encoder.model.0.weight", 4), ("enc.txt_embeddings.word_embeddings.weight", 2)],
)
def test_a_tensor_without_the_dimensions_that_tell_a_size_is_named(name, dims, mmbt):
    tensors, args = mmbt
    shared = name.replace("txt_", "img_")
    tensors |= {name: torch.tensor(1.0), shared: torch.tensor(1.0)} if "emb" in name else {name: torch.tensor(1.0)}
    with pytest.raises(ValueError, match=rf"Expected '{name}' to have {dims} dimensions, .* found shape \(\)"):
        convert_run(run_from_args(args), tensors, num_attention_heads=4)


def test_other_shapes_are_found_before_a_model_is_built(mmbt):
    tensors, args = mmbt
    huge = torch.empty((), dtype=torch.float32).expand(200_000, tensors["clf.weight"].shape[1])
    name = "enc.encoder.layer.0.intermediate.dense.weight"
    before = time.process_time()
    with pytest.raises(ValueError, match=rf"does not fit .* of other shapes: .*{name.replace('0', '1')} \(\d+, "):
        convert_run(run_from_args(args), {**tensors, name: huge}, num_attention_heads=4)
    assert time.process_time() - before < 20
    tensors["enc.pooler.dense.bias"] = tensors["enc.pooler.dense.bias"][:3]
    with pytest.raises(ValueError, match=r"enc\.pooler\.dense\.bias \(3,\) in place of \(\d+,\)\. Are the files"):
        convert_run(run_from_args(args), tensors, num_attention_heads=4)


@pytest.mark.parametrize("name", ["enc.clf.bias", "enc.img_embeddings.LayerNorm.bias"])
def test_half_of_what_the_original_saves_together_is_refused(name, mmbt):
    tensors, args = mmbt
    del tensors[name]
    with pytest.raises(ValueError, match=rf"together, as the original saves them, found no {name}\. The checkpoint"):
        convert_run(run_from_args(args), tensors, num_attention_heads=4)


def test_attention_heads_are_never_guessed(mmbt):
    tensors, args = mmbt
    original = run_from_args(args)
    for heads, message in (
        (0, "Expected num_attention_heads to be a whole number of at least 1, found 0"),
        (-4, "Expected num_attention_heads to be a whole number of at least 1, found -4"),
        (5, r"Expected num_attention_heads to divide the hidden size \d+, found 5\. Pass"),
    ):
        with pytest.raises(ValueError, match=message):
            convert_run(original, tensors, num_attention_heads=heads)
    # 64 divides this hidden size: still no file tells the number
    wide = {"enc.embed": torch.zeros(1)}
    with pytest.raises(ValueError, match="Expected a tensor of the original 'mmbt' model"):
        convert_run(original, wide)
    name = "enc.txt_embeddings.word_embeddings.weight"
    shared = name.replace("txt_", "img_")
    tensors |= {key: torch.zeros(len(tensors[name]), 128) for key in (name, shared)}
    with pytest.raises(
        ValueError, match=r"hidden size 128, None\) is in no file of the run: pass --num_attention_heads"
    ):
        convert_run(original, tensors)


def test_attention_heads_and_their_source_are_told(golden, tmp_path, capsys):
    main(["mmbt", str(golden / "mmbt" / "run_dir"), str(tmp_path / "out"), "--num_attention_heads", "4"])
    assert "attention heads: 4 (given)" in capsys.readouterr().out
    recipe = (tmp_path / "out" / "recipe.yaml").read_text()
    assert recipe.startswith("# The flags of the original run") and "#   pretrained: this folder" in recipe
    assert yaml.safe_load(recipe)["task"] == "mmimdb"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_image_embeds": 0}, "Expected num_image_embeds of args.pt to be a whole number from 1 to 9, found 0"),
        ({"num_image_embeds": 10}, "from 1 to 9, found 10.*pass --num_image_embeds"),
        ({"num_image_embeds": -3}, "from 1 to 9, found -3"),
        ({"num_image_embeds": [3]}, r"from 1 to 9, found \[3\]"),
        ({"max_seq_len": 0}, "Expected max_seq_len of args.pt to be a whole number of at least 1, found 0"),
        ({"max_seq_len": "x"}, "Expected max_seq_len of args.pt to be a whole number .*'x'.*or pass --max_seq_len"),
        ({"max_seq_len": 100_000}, "Expected max_seq_len of at most 64, the positions .* Pass --max_seq_len 64"),
        ({"task": "foo"}, "Expected task to be one of mmimdb, vsnli, food101, found 'foo'. Pass --task"),
        ({"task": {}}, "Expected task to be one of mmimdb, vsnli, food101, found {}"),
        ({"img_embed_pool_type": "sum"}, "Expected img_embed_pool_type to be one of avg, max, found 'sum'"),
        ({"label_freqs": "text"}, "Expected label_freqs to count the labels .*, found 'text'"),
        ({"label_freqs": dict.fromkeys(LABELS, 0)}, "Expected label_freqs of 'L0' to be .* at least 1, found 0"),
        ({"label_freqs": dict.fromkeys(LABELS, "3")}, "Expected label_freqs of 'L0' to be .*, found '3'"),
        ({"train_data_len": "12"}, "Expected train_data_len of args.pt to be a whole number of at least 1, found '12'"),
        ({"dropout": 2}, "Expected dropout of args.pt to be a number from 0 to 1, found 2"),
        ({"bert_model": ["x"]}, r"Expected bert_model of args.pt to be text, found \['x'\]"),
        ({"weight_classes": "no"}, "Expected weight_classes of args.pt to be 0 or 1, found 'no'"),
    ],
)
def test_args_of_the_wrong_type_or_range_are_refused(changes, message, mmbt):
    tensors, args = mmbt
    with pytest.raises(ValueError, match=message):
        convert_run(run_from_args({**args, **changes}), tensors, num_attention_heads=4)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("lr", "x", "Expected lr of args.pt to be a number of at least 0, found 'x'"),
        ("batch_sz", 0, "Expected batch_sz of args.pt to be a whole number of at least 1, found 0"),
        ("warmup", float("nan"), "Expected warmup"),
        ("drop_img_percent", 3, "a number from 0 to 1, found 3"),
        ("hidden", ["wide"], r"a list of whole numbers above 0, found \['wide'\]"),
        ("savedir", 7, "Expected savedir of args.pt to be text, found 7. The file was changed"),
    ],
)
def test_flags_that_a_recipe_takes_over_are_checked(flag, value, message):
    with pytest.raises(ValueError, match=message):
        run_from_args({**ARGS, flag: value})


# --- TabFormer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers = 1,000,000,000, as config.json says, found \d+ in"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings = 1,000,000,000,000, as config.json says, fo"),
        ({"num_layers": 10**9}, "num_layers = 1,000,000,000, as config.json says, found 1 in the checkpoint"),
        ({"intermediate_size": 10**12}, "intermediate_size = 1,000,000,000,000, as config.json says"),
        ({"type_vocab_size": 10**12}, "type_vocab_size = 1,000,000,000,000, as config.json says"),
        ({"hidden_size": None}, "Expected hidden_size of config.json to be a whole number of at least 1, found None"),
        ({"hidden_size": "x"}, "Expected hidden_size of config.json to be a whole number of at least 1, found 'x'"),
        ({"hidden_size": 96}, r"Expected hidden_size of config.json to be ncols × field_hidden_size"),
        ({"num_attention_heads": 7}, "Expected num_attention_heads to divide hidden_size in config.json, found 7"),
        ({"nhead": 0}, "Expected nhead of config.json to be a whole number of at least 1, found 0"),
        ({"nhead": 7}, "Expected nhead to divide field_hidden_size in config.json, found 7"),
        ({"ncols": "12"}, "Expected ncols of config.json to be a whole number of at least 1, found '12'"),
        ({"hidden_act": "os.system"}, "Expected hidden_act of config.json to be one of .*gelu.*, found 'os.system'"),
        ({"hidden_dropout_prob": 2}, "Expected hidden_dropout_prob of config.json to be a number from 0 to 1"),
        ({"layer_norm_eps": "small"}, "Expected layer_norm_eps of config.json to be a number above 0"),
        ({"flatten": "no"}, "Expected flatten of config.json to be true or false, found 'no'"),
        ({"architectures": "BertForMaskedLM"}, "Expected architectures of config.json to be a list of names"),
    ],
)
def test_config_json_is_compared_with_the_tensors_before_a_model_is_built(changes, message, table):
    config, *parts = table("hier")
    with pytest.raises(ValueError, match=message):
        convert_tabformer({**config, **changes}, *parts)


def test_config_json_without_a_size_is_refused(table):
    config, *parts = table("hier")
    del config["hidden_size"]
    with pytest.raises(ValueError, match=r"found no \['hidden_size'\] in it\. Pass the config\.json that the original"):
        convert_tabformer(config, *parts)


def test_tensors_of_tabformer_that_do_not_fit_are_named(table):
    config, tensors, *parts = table("hier")
    words = "tab_embeddings.word_embeddings.weight"
    for change, message in (
        ({words: torch.tensor(1.0)}, rf"Expected '{words}' to have 2 dimensions, none of them empty, found shape \(\)"),
        ({words: None}, rf"Expected a tensor '{words}' in the checkpoint, found none"),
        ({words: tensors[words][:600]}, r"vocab_size = 648, as config\.json says, found 600 in the checkpoint"),
        (
            {"tb_model.cls.predictions.decoder.bias": None},
            "Expected 'tb_model.cls.predictions.decoder.bias' beside .*, found none. The checkpoint is not whole",
        ),
        (
            {
                name: tensors[name][:600]
                for name in ("tb_model.cls.predictions.decoder.bias", "tb_model.cls.predictions.bias")
            },
            r"Expected 648 rows, one for each id of the vocabulary, found shape \(600,\) in 'tb_model\.cls",
        ),
        ({"tab_embeddings.lin_proj.bias": torch.zeros(3)}, r"tab_embeddings\.lin_proj\.bias \(3,\) in place of"),
    ):
        changed = {name: value for name, value in {**tensors, **change}.items() if value is not None}
        with pytest.raises(ValueError, match=message):
            convert_tabformer(config, changed, *parts)


def test_field_ce_against_the_config_is_refused(table):
    config, *parts = table("flat_vanilla")
    config["architectures"] = ["BertForMaskedLM"]
    message = r"with --field_ce, as was passed, found one trained without .*BertForMaskedLM.* Leave out --field_ce"
    with pytest.raises(ValueError, match=message):
        convert_tabformer(config, *parts, field_ce=True)
    assert convert_tabformer(config, *parts, field_ce=False).model.config.mlm_loss == "vocab"
    config["architectures"] = ["TabFormerBertForMaskedLM"]
    with pytest.raises(ValueError, match="without --field_ce, as was passed, found one trained with in"):
        convert_tabformer(config, *parts, field_ce=False)
    config, *parts = table("hier")
    with pytest.raises(ValueError, match="a hierarchical model always is"):
        convert_tabformer(config, *parts, field_ce=False)


# --- files


def test_weights_must_be_finite_floating_point_numbers(tmp_path):
    path = tmp_path / "model.bin"
    with pytest.raises(ValueError, match=r"finite numbers in 'a' of .*, found NaN or infinity in 1 of 3\. Training"):
        require_numbers({"a": torch.tensor([1.0, float("nan"), 2.0])}, path)
    with pytest.raises(ValueError, match=r"floating-point numbers in 'a' of .*, found torch\.int32\. The weights were"):
        require_numbers({"a": torch.ones(3, dtype=torch.int32)}, path)
    require_numbers({"bn1.num_batches_tracked": torch.tensor(3), "embeddings.position_ids": torch.arange(3)}, path)


def test_commands_look_at_the_numbers_of_the_weights(golden, tmp_path):
    tensors = load_file(golden / "mmbt" / "img_init.safetensors")
    tensors["clf.weight"][0, 0] = float("nan")
    torch.save({"state_dict": tensors}, tmp_path / "model_best.pt")
    with pytest.raises(ValueError, match=r"finite numbers in 'clf\.weight'"):
        read_mmbt_run(tmp_path, None)


def test_label_files_lose_their_mark_and_blank_end(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffa\r\nb\nc\n\n".encode())
    assert read_labels([str(file)]) == ["a", "b", "c"]
    assert read_labels(["[a, 007]"]) == ["a", "007"]
    assert read_labels(["a"]) == ["a"] and read_labels(["a", "b"]) == ["a", "b"] and read_labels(None) is None
    with pytest.raises(FileNotFoundError, match=r"found nothing at 'absent\.txt'\. Pass --labels FILE"):
        read_labels(["absent.txt"])
    file.write_bytes(b"a\n\nb\n")
    with pytest.raises(ValueError, match=r"a label in each line of .*, found line 2 blank\. Remove it"):
        read_labels([str(file)])
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"as UTF-8 text, one a line, .*, found other bytes"):
        read_labels([str(file)])


def test_vocabularies_that_are_none_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"Expected the vocabulary in a file, found nothing .* Pass --vocab FILE"
    ):
        read_words(tmp_path / "none", "mmbt")
    with pytest.raises(FileNotFoundError, match="found a folder at"):
        read_words(tmp_path, "bow")


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_a_pickled_vocabulary_of_any_protocol_is_read(protocol, tmp_path):
    content = {"SPECIAL": {"[UNK]": [0, 0], "[SEP]": [1, 1]}, "Amount": {0: [2, 0]}}
    (tmp_path / "vocab").write_bytes(pickle.dumps(content, protocol))
    assert read_vocabulary(tmp_path / "vocab") == ["SPECIAL_[UNK]", "SPECIAL_[SEP]", "Amount_0"]


def test_a_tokenizer_that_is_not_there_is_named(tmp_path, caplog):
    with pytest.raises(FileNotFoundError, match=r"Expected a folder or a Hub name .*, found nothing at './absent/one'"):
        load_tokenizer("./absent/one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Expected a tokenizer at --tokenizer .*, found none that loads \("):
        load_tokenizer(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="Expected a tokenizer at --tokenizer 'nope/nope'"):
        load_tokenizer("nope/nope")


# --- DST and the way back


def test_dst_that_cannot_be_made_is_refused_before_any_work(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    for name in ("link", "dangling"):
        with pytest.raises(FileExistsError, match=r"not to exist, found a link to .*\. Pass the place itself"):
            require_empty(tmp_path / name)
    with pytest.raises(FileExistsError, match=r"not to exist, found a file\. Choose another folder"):
        require_empty(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match=r"found the file .*file'\. Choose another folder"):
        require_empty(tmp_path / "file" / "deep" / "out")
    if Path("/proc/self").is_dir():  # where even root may make no folder
        with pytest.raises(PermissionError, match=r"the right to make DST .*, found none\. Choose another"):
            require_empty(Path("/proc/self/out"))
    require_empty(tmp_path / "empty")
    require_empty(tmp_path / "new" / "deep")


def test_a_full_disk_is_told_as_an_error_of_the_disk(tmp_path):
    def fails(folder):
        raise SafetensorError("No space left on device (os error 28)")

    with pytest.raises(OSError, match=r"Expected to write DST .*, found: No space left .* Make room"):
        write_whole(tmp_path / "new", fails)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [SafetensorError("no space"), StrictDataclassError("not that")])
def test_errors_of_libraries_reach_a_person_without_a_traceback(error, capsys):
    def command(arguments):
        raise error

    with pytest.raises(SystemExit):
        run(command, [])
    assert f"{type(error).__name__}: {error}\n" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on_and_one_process_speaks(monkeypatch, capsys):
    def stopped(arguments):
        raise KeyboardInterrupt

    def wrong(arguments):
        raise ValueError("Expected this, found that.")

    with pytest.raises(SystemExit) as stop:
        run(stopped, [])
    assert stop.value.code == 130
    assert "Interrupted. The same command starts anew.\n" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    for command in (stopped, wrong):
        with pytest.raises(SystemExit):
            run(command, [])
    assert capsys.readouterr().err == ""


def test_the_way_back_needs_a_folder_of_ours(golden, tmp_path):
    for kind, source, message in (
        ("mmbt", tmp_path / "absent", "Expected the folder of one of our models .*, found no such folder"),
        ("mmbt", golden / "mmbt" / "run_dir", r"found \['args.pt'.* With --reverse SRC is ours"),
        ("mmbt", golden / "tabformer" / "hier", r"Expected MMBTForClassification or .* for the kind mmbt, found \["),
        (
            "tabformer",
            golden / "tabformer" / "hier",
            "Expected TabBertForMaskedLM or TabGPT2LMHeadModel in .* for the kind tabformer",
        ),
    ):
        error = FileNotFoundError if "folder of" in message or "With --r" in message else ValueError
        source = shutil.copytree(source, tmp_path / source.name, dirs_exist_ok=True) if source.exists() else source
        if (source / "config.json").is_file():
            config = json.loads((source / "config.json").read_text())
            (source / "config.json").write_text(json.dumps({"architectures": ["BertModel"], **config}))
        with pytest.raises(error, match=message):
            main([kind, str(source), str(tmp_path / "out"), "--reverse"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"Expected a JSON mapping in .*config\.json.* With --reverse SRC is ours"):
        main(["mmbt", str(other), str(tmp_path / "out"), "--reverse"])
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_a_folder_is_taken(golden, tmp_path):
    BertTokenizer.from_pretrained(golden / "mmbt").save_pretrained(tmp_path / "tokenizer")
    assert "[CLS]" in load_tokenizer(str(tmp_path / "tokenizer")).get_vocab()


def test_a_checkpoint_that_is_not_there_is_said_to_be_absent(tmp_path):
    for name, found in ((tmp_path / "absent", "no such folder"), (tmp_path, "a folder without config.json")):
        with pytest.raises(FileNotFoundError, match=rf"Expected a saved model .*, found {found}, .* Pass the folder"):
            evaluate([str(name), "sample:openclipart", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("export", ["out"]), ("embed", ["rows.csv", "out.parquet"]), ("generate", ["out.parquet"]),
        ("embed", ["rows.csv", "out.parquet", "--what", "statistics"]), ("drift", ["rows.csv", "out.html"]),
        ("predict", ["rows.csv", "out.csv"]),
    ],
)  # fmt: skip
def test_every_command_names_a_checkpoint_that_is_not_there(command, more, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("a\n1\n")
    main = importlib.import_module(f"hf_mmtab.commands.{command}").main
    with pytest.raises(FileNotFoundError, match=r"Expected a saved model .* at 'nosuch', found no such folder"):
        main(["nosuch", *more])


def nested(depth):
    """A list that holds itself-like lists twice at each depth: 2 kB in a file, 2 ** depth when written out."""
    value = ["label"]
    for _ in range(depth):
        value = [value, value]
    return value


HOSTILE_ARGS = {
    "labels that unfold": {"labels": nested(90)},
    "labels that unfold to a depth that is read": {"labels": nested(14)},
    "counts that unfold": {"label_freqs": {label: nested(14) for label in LABELS}},
    "a flag that unfolds": {"lr": nested(14)},
    "a long flag": {"hidden": ["wide"] * 100_000},
    "a number of many digits": {"lr": 10**10_000},
    "many flags": {"labels": None, **{f"flag{n}": n for n in range(50_000)}},
    "a long label": {"labels": ["x" * 1_000_000] * 2},
    "a long name of a model": {"model": "x" * 1_000_000},
}


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("name", list(HOSTILE_ARGS))
def test_hostile_args_end_soon_in_a_short_message(name, old, golden, tmp_path):
    shutil.copy(golden / "mmbt" / "run_dir" / "model_best.pt", tmp_path)
    args = argparse.Namespace(**{**ARGS, **HOSTILE_ARGS[name]})
    torch.save(args, tmp_path / "args.pt", _use_new_zipfile_serialization=not old)
    before = time.process_time()
    with pytest.raises(ValueError, match=r"args|label|model") as error:
        main(["mmbt", str(tmp_path), str(tmp_path / "out"), "--num_attention_heads", "4"])
    assert time.process_time() - before < 20 and len(str(error.value)) < 5000
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("token2id", [{"A" * 10_000: {n: [n, n] for n in range(100)}}, {"A": nested(80)}])
def test_a_vocabulary_that_unfolds_is_refused(token2id, tmp_path):
    (tmp_path / "vocab").write_bytes(pickle.dumps(token2id, 4))
    with pytest.raises(ValueError, match=r"map field → token|too many when written out") as error:
        read_vocabulary(tmp_path / "vocab")
    assert len(str(error.value)) < 1000
