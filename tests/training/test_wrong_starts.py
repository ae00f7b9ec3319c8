"""What `MMTabTrainer` says to a start that cannot train: names of parts, places, rows; and to an early look."""

import datasets
import pytest
from toy import ToyRows, toy_arguments, toy_trainer

from hf_mmtab.training.arguments import PART_ARGUMENTS
from hf_mmtab.training.freezing import FreezeSchedule


@pytest.mark.parametrize("part", [5, None, True, ("text_encoder",), ""], ids=str)
@pytest.mark.parametrize("argument", PART_ARGUMENTS)
def test_keys_that_name_no_part_are_refused(tmp_path, argument, part):
    value = {"part_learning_rates": 1e-3, "layerwise_lr_decay": 0.9}.get(argument, "1 epoch")
    told = rf"Expected names of parts as keys of {argument}, such as 'text_encoder' .*, found "
    with pytest.raises(ValueError, match=told):
        toy_arguments(tmp_path, **{argument: {"text_encoder": value, part: value}})
    if argument in ("freeze", "gradual_unfreezing"):
        with pytest.raises(ValueError, match=told):
            FreezeSchedule(**{argument: {part: value}})


def test_the_audit_says_when_there_is_none_yet_and_when_there_will_be_none(tmp_path):
    trainer = toy_trainer(tmp_path, num_train_epochs=1)
    with pytest.raises(ValueError, match=r"found none yet\. Call `trainer\.train\(\)` before `trainer\.audit`"):
        trainer.audit.explain("text_encoder")
    trainer.train()
    assert trainer.audit.explain("text_encoder").startswith("text_encoder has trained since step 0")

    without = toy_trainer(tmp_path, num_train_epochs=1, audit=False)
    for train in (lambda: None, without.train):
        train()
        with pytest.raises(ValueError, match="Expected audit: true for an audit, found audit: false"):
            without.audit.explain("text_encoder")


def test_the_audit_of_processes_that_do_not_write_is_none(tmp_path):
    trainer = toy_trainer(tmp_path, num_train_epochs=1)
    trainer.train()
    trainer.auditing.audit = None  # as on the second process
    assert trainer.audit is None


@pytest.mark.parametrize("below", ["", "below", "deep/below"])
def test_a_file_in_place_of_the_output_folder_is_told(tmp_path, below):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(ValueError, match=r"Expected a folder as output_dir, found a file at '.*taken'\. Choose"):
        toy_trainer(taken / below)
    trainer = toy_trainer(tmp_path / "later")
    trainer.args.output_dir = str(taken / below)
    with pytest.raises(ValueError, match="Expected a folder as output_dir, found a file at"):
        trainer.train()
    assert taken.read_text() == "mine"


@pytest.mark.parametrize(
    "rows", [[], ToyRows(0), datasets.Dataset.from_dict({"input_ids": [], "labels": []})], ids=type
)
def test_no_rows_to_train_on_are_told(tmp_path, rows):
    with pytest.raises(ValueError, match=r"Expected rows in train_dataset, found none\. Pass the rows"):
        toy_trainer(tmp_path, trainer_options={"train_dataset": rows}).train()


@pytest.mark.parametrize("rows", [2, 3])
def test_no_whole_batch_is_told_where_others_are_dropped(tmp_path, rows):
    with pytest.raises(ValueError, match=rf"whole batch of 4 rows for each of 1 processes, found {rows} rows to train"):
        toy_trainer(tmp_path, rows=rows, dataloader_drop_last=True).train()
    assert toy_trainer(tmp_path, rows=rows, num_train_epochs=1).train().global_step == 1


@pytest.mark.parametrize("key", ["per_device_train_batch_size", "per_device_eval_batch_size"])
@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_no_rows_a_batch_are_refused(tmp_path, key, size):
    with pytest.raises(ValueError, match=f"Expected {key} to be a whole number from 1 on, found {size}"):
        toy_arguments(tmp_path, **{key: size})
