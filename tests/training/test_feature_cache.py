"""What a frozen part gives is computed once, and results equal recomputing."""

import json
import os
import pickle
import time

import numpy as np
import pytest
import torch
from toy import ToyRows, largest_difference, toy_model, toy_trainer, weights

from hf_mmtab.training.arguments import parse_size
from hf_mmtab.training.features.store import FeatureStore, StoreWriter, finish_store, make_room
from hf_mmtab.training.features.views import FeatureCollator

FROZEN = {"image_encoder": "3 epochs"}

STORE = "part-0123456789abcdef01234567"  # the name of a store


def run(folder, model=None, rows=None, **changes):
    options = {} if rows is None else {"train_dataset": rows}
    settings = {"num_train_epochs": 5, "feature_cache": True, "eval_strategy": "epoch", "freeze": FROZEN}
    trainer = toy_trainer(folder, model, trainer_options=options, **{**settings, **changes})
    trainer.train()
    return trainer


def test_results_equal_recomputing(tmp_path):
    cached = run(tmp_path / "cached")
    plain = run(tmp_path / "plain", feature_cache=False)
    assert cached.model.image_calls < plain.model.image_calls
    assert largest_difference(weights(cached.model), weights(plain.model)) < 1e-6
    losses = [[row["eval_loss"] for row in t.state.log_history if "eval_loss" in row] for t in (cached, plain)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_picture_encoder_runs_once_per_row_while_frozen(tmp_path):
    trainer = run(tmp_path, freeze={"image_encoder": "forever"})
    # 32 rows in 4 batches of 8, and 12 evaluation rows in 2; one more batch each to measure the size.
    assert trainer.model.image_calls == (4 + 1) + (2 + 1)


def test_second_run_reads_what_the_first_stored(tmp_path):
    run(tmp_path / "first", feature_cache_dir=str(tmp_path / "features"), freeze={"image_encoder": "forever"})
    second = run(tmp_path / "second", feature_cache_dir=str(tmp_path / "features"), freeze={"image_encoder": "forever"})
    assert second.model.image_calls == 0


def test_other_weights_or_rows_have_another_key(tmp_path):
    options = {"feature_cache_dir": str(tmp_path / "features"), "freeze": {"image_encoder": "forever"}}
    run(tmp_path / "a", **options)
    assert run(tmp_path / "b", toy_model(seed=1), **options).model.image_calls == 5 + 3
    assert run(tmp_path / "c", rows=ToyRows(32, seed=5), **options).model.image_calls == 5


def test_random_inputs_switch_the_cache_off(tmp_path, capsys):
    trainer = run(tmp_path, rows=ToyRows(32, random=True), show_freeze_report=True, eval_strategy="no")
    assert trainer.model.image_calls == 5 * 8
    assert "Feature cache off for image_encoder: ['pixel_values'] of the same rows differ" in capsys.readouterr().out


class NoFingerprint(ToyRows):
    def __getattribute__(self, name):
        if name == "fingerprint":
            raise AttributeError(name)
        return super().__getattribute__(name)


def test_rows_without_a_fingerprint_switch_the_cache_off_and_say_so_once(tmp_path, capsys):
    trainer = run(tmp_path, rows=NoFingerprint(32), show_freeze_report=True, eval_strategy="no")
    assert trainer.model.image_calls == 5 * 8
    said = capsys.readouterr().out
    assert said.count("Feature cache off for image_encoder: NoFingerprint has no `fingerprint`") == 1


def test_declared_augmentation_switches_the_cache_off(tmp_path, capsys):
    class Augmenting:
        random_inputs = frozenset({"pixel_values"})

        def __call__(self, rows):
            return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    options = {"data_collator": Augmenting(), "eval_dataset": None}
    toy_trainer(tmp_path, trainer_options=options, feature_cache=True, freeze=FROZEN, show_freeze_report=True).train()
    assert "augmentation makes ['pixel_values'] random" in capsys.readouterr().out


def test_frozen_mode_train_and_partly_frozen_parts_are_not_cached(tmp_path):
    drifting = run(tmp_path / "a", frozen_mode="train", eval_strategy="no")
    layer = run(tmp_path / "b", freeze={"image_model.stem": "forever"}, eval_strategy="no")
    assert drifting.model.image_calls == layer.model.image_calls == 5 * 8


def test_part_frozen_through_its_module_path_is_cached(tmp_path):
    assert run(tmp_path, freeze={"image_model": "forever"}, eval_strategy="no").model.image_calls == 5


def test_budget_switches_the_cache_off(tmp_path, capsys):
    run(tmp_path, feature_cache_budget="500", show_freeze_report=True, eval_strategy="no")
    assert "32 rows need 0 MB, which feature_cache_budget (0 MB)" in capsys.readouterr().out
    assert not list((tmp_path / "_feature_cache").iterdir())


def test_oldest_store_makes_room(tmp_path):
    options = {"feature_cache_dir": str(tmp_path / "features"), "feature_cache_budget": "3KB", "eval_strategy": "no"}
    run(tmp_path / "a", **options)
    run(tmp_path / "b", toy_model(seed=1), **options)
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_store_that_another_run_deletes_is_read_on(tmp_path):
    folder = tmp_path / STORE
    (tmp_path / "part").mkdir()
    writer = StoreWriter(tmp_path / "part", 0)
    for row in range(3):
        writer.add(row, torch.full((2, 4), float(row)))
    writer.close()
    finish_store(tmp_path / "part", folder, 3)
    store = FeatureStore(folder)
    assert make_room(tmp_path, needed=10, budget=100, keep=[]) and not folder.exists()
    assert [store[row].unique().tolist() for row in range(3)] == [[0.0], [1.0], [2.0]]


def test_budget_holds_when_another_run_fills_the_folder_meanwhile(tmp_path, monkeypatch):
    other = tmp_path / "features" / STORE

    def finish(temporary, final, rows):
        finish_store(temporary, final, rows)
        other.mkdir()
        (other / "data-0.bin").write_bytes(bytes(4000))
        (other / "index.npy").write_bytes(b"")
        (other / "meta.json").write_text("{}")
        os.utime(other / "meta.json", (0, 0))

    monkeypatch.setattr("hf_mmtab.training.features.cache.finish_store", finish)
    options = {"feature_cache_dir": str(tmp_path / "features"), "feature_cache_budget": "6KB"}
    run(tmp_path / "run", **options, eval_strategy="no", num_train_epochs=4)
    (store,) = (tmp_path / "features").iterdir()
    assert store.name.startswith("image_encoder")


def test_what_a_killed_run_left_half_written_makes_room_but_not_what_is_being_written(tmp_path):
    left, living = (f"{STORE}.{digit * 32}.tmp" for digit in "ab")
    for name, age in ((left, 7200), (living, 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data-0.bin").write_bytes(bytes(100))
        then = time.time() - age
        for path in (tmp_path / name / "data-0.bin", tmp_path / name):
            os.utime(path, (then, then))
    assert make_room(tmp_path, needed=50, budget=160, keep=[])
    assert [path.name for path in tmp_path.iterdir()] == [living]


def test_folders_of_others_are_never_deleted_to_make_room(tmp_path):
    for name in ("old.tmp", "study-0123"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.json").write_text("{}")
        (tmp_path / name / "data.bin").write_bytes(bytes(100))
        for path in (*(tmp_path / name).iterdir(), tmp_path / name):
            os.utime(path, (0, 0))
    assert not make_room(tmp_path, needed=150, budget=200, keep=[])
    assert {path.name for path in tmp_path.iterdir()} == {"old.tmp", "study-0123"}


def test_thaw_inside_an_epoch_computes_that_whole_epoch(tmp_path):
    cached = run(tmp_path / "cached", freeze={"image_encoder": "20 steps"})
    plain = run(tmp_path / "plain", freeze={"image_encoder": "20 steps"}, feature_cache=False)
    assert largest_difference(weights(cached.model), weights(plain.model)) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_loader_workers_see_the_thaw(tmp_path, persistent):
    options = {"dataloader_num_workers": 2, "dataloader_persistent_workers": persistent, "num_train_epochs": 4}
    cached = run(tmp_path / "cached", **options)
    plain = run(tmp_path / "plain", feature_cache=False, **options)
    assert cached.model.image_calls < plain.model.image_calls
    assert largest_difference(weights(cached.model), weights(plain.model)) < 1e-6


def test_store_keeps_rows_of_different_lengths(tmp_path):
    pieces = [torch.randn(length, 4, dtype=torch.bfloat16) for length in (2, 5, 1)]
    for rank in (0, 1):
        (tmp_path / "part").mkdir(exist_ok=True)
        writer = StoreWriter(tmp_path / "part", rank)
        for row in range(rank, 3, 2):
            writer.add(row, pieces[row])
        writer.close()
    finish_store(tmp_path / "part", tmp_path / "store", 3)
    store = pickle.loads(pickle.dumps(FeatureStore(tmp_path / "store")))
    assert all(torch.equal(store[row], pieces[row]) for row in range(3))


def test_features_are_padded_to_the_mask_of_the_batch():
    spec = {"inputs": ["input_ids"], "output": "row_states", "method": "encode", "mask": "attention_mask"}

    def collator(rows):
        ids = torch.zeros(len(rows), 6, dtype=torch.long)
        mask = torch.stack([(torch.arange(6) < len(row["input_ids"])).long() for row in rows])
        return {"input_ids": ids, "attention_mask": mask}

    rows = [{"input_ids": [1, 2], "row_states": torch.ones(4, 3)}, {"input_ids": [1], "row_states": torch.ones(2, 3)}]
    batch = FeatureCollator(collator, {"encoder": spec})(rows)
    assert set(batch) == {"attention_mask", "row_states"}
    assert batch["row_states"].shape == (2, 12, 3)
    assert batch["row_states"].sum(dim=(1, 2)).tolist() == [12.0, 6.0]


@pytest.mark.parametrize("text, size", [("20GB", 20 * 2**30), ("1.5 MB", 1572864), ("500", 500), (1e3, 1000)])
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


def test_unclear_size_is_an_error():
    with pytest.raises(ValueError, match="Expected a size such as '20GB'"):
        parse_size("much")


class Marked(ToyRows):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "augment": True, "note": "for the collator"}


def test_collator_sees_marks_that_the_model_does_not_take(tmp_path):
    seen = []

    def collator(rows):
        seen.append(rows[0].get("augment"))
        names = ("input_ids", "pixel_values", "labels")
        return {**{name: torch.stack([row[name] for row in rows]) for name in names}, "rows": torch.ones(1)}

    options = {"train_dataset": Marked(8), "eval_dataset": None, "data_collator": collator}
    toy_trainer(tmp_path, trainer_options=options, num_train_epochs=1).train()
    assert seen == [True, True]


def test_what_a_killed_removal_left_of_a_store_gives_way_and_files_of_others_do_not(tmp_path):
    def fresh(folder):
        folder.mkdir()
        writer = StoreWriter(folder, 0)
        for row in range(3):
            writer.add(row, torch.full((2, 4), float(row)))
        writer.close()
        return folder

    final = tmp_path / "store"
    finish_store(fresh(tmp_path / "first"), final, 3)
    (final / "meta.json").unlink()  # the files behind it in the order of removal are still there
    finish_store(fresh(tmp_path / "second"), final, 3)
    assert FeatureStore(final)[1].unique().tolist() == [1.0]
    (final / "meta.json").unlink()
    (final / "mine.txt").write_text("mine")
    with pytest.raises(OSError):
        finish_store(fresh(tmp_path / "third"), final, 3)
    assert (final / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(("name", "damage"), [("data-0.bin", lambda data: data[:-4]), ("index.npy", lambda _: b"no")])
def test_a_damaged_store_is_named_with_its_remedy(tmp_path, name, damage):
    folder = tmp_path / "store"
    folder.mkdir()
    writer = StoreWriter(folder, 0)
    for row in range(3):
        writer.add(row, torch.ones(2, 4))
    writer.close()
    entries = np.load(folder / "share-0.npy")
    np.save(folder / "index.npy", entries[:, 1:])
    (folder / "meta.json").write_text(json.dumps({**writer.meta, "files": 1}))
    assert FeatureStore(folder)[2].shape == (2, 4)
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"{name}.*damaged.*Delete the folder .*it is made anew"):
        FeatureStore(folder)
