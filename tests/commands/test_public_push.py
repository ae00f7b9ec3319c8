"""What arrives at a Hub from runs on made-up customers: no row, no entity, no picture, no path."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_server import HubServer, Repository
from PIL import Image

from hf_mmtab.publishing import hub_errors, vocabulary_warnings
from hf_mmtab.publishing.local_paths import LocalPaths, hub_names

TESTS = Path(__file__).resolve().parents[1]
CUSTOMER = "Mustermann"  # in every entity and every text
CLIENT = "acme-bank"  # in every path
MERCHANTS = ["bakery", "grocer", "cinema"]
TRAINING = {
    "num_train_epochs": 1, "per_device_train_batch_size": 16, "eval_strategy": "epoch", "save_strategy": "epoch",
    "load_best_model_at_end": True, "report_to": "none", "disable_tqdm": True, "seed": 1, "push_to_hub": True,
    "hub_strategy": "checkpoint", "hub_always_push": True, "hub_token": "hf_secret-of-mine",
}  # fmt: skip
SIZES = {
    "field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "seq_len": 4,
}  # fmt: skip
PLAN = {
    "entity": "who",
    "time": "when",
    "label": "odd",
    "fields": {"shop": {}, "amount": {"kind": "money", "num_bins": 4}},
}
SESSION = """
import json, sys
from hf_mmtab.__main__ import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["hf_mmtab", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
"""


def write_table(folder: Path) -> Path:
    """Histories of customers whose amounts have many digits, so that one is found again."""
    rng = np.random.default_rng(0)
    rows = []
    for who in range(14):
        for step in range(24):
            amount, odd = 1000 + 0.01 * int(rng.integers(0, 900_000)), step % 5 == who % 5
            when = f"2024-01-{1 + step:02d} {who:02d}:00"
            shop = MERCHANTS[int(rng.integers(0, 3))]
            rows.append((when, f"{CUSTOMER} {who}", shop, f"{amount:.2f}", "yes" if odd else "no"))
    path = folder / "payments.csv"
    lines = ["when,who,shop,amount,odd", *(",".join(row) for row in sorted(rows))]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_pictures(folder: Path) -> None:
    """Pictures of noise with texts; in each split one that lies outside of the folder."""
    (folder / "img").mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(folder.parent / "outside.png")
    rng = np.random.default_rng(0)
    for split, size in (("train", 24), ("dev", 8), ("test", 8)):
        lines = []
        for index in range(size):
            name = folder / "img" / f"{split}-{index}.png"
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(name)
            text = f"the {'sea' if index % 2 else 'land'} of {CUSTOMER} {index}"
            label = "same" if rng.random() < 0.5 else "other"
            lines.append({"id": f"{CUSTOMER}-{index}", "text": text, "img": f"img/{name.name}", "label": label})
        lines[0]["img"], lines[1]["img"] = str(folder / lines[0]["img"]), "../outside.png"
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def run_session(hub: HubServer, home: Path, *commands: list[str]) -> str:
    environment = {**os.environ, **hub.environment(home), "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SESSION, json.dumps(commands)], env=environment, capture_output=True, text=True, cwd=home
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert "hf_secret" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def pushed(tmp_path_factory, tiny_text, tiny_image):
    """The repositories after both families were trained with push_to_hub and pushed by the command; what was said."""
    root = tmp_path_factory.mktemp("clients") / CLIENT
    root.mkdir()
    shutil.copytree(tiny_text, root / "text-model")
    shutil.copytree(tiny_image, root / "image-model")
    write_pictures(root / "pictures")
    table = write_table(root)
    recipes = {
        "encoder": {"task": "table", "data": str(table), "plan": PLAN, **SIZES, "hub_model_id": "acme/encoder"},
        "head": {
            "task": "table", "data": str(table), "pretrained": str(root / "encoder"), "seq_len": 4, "bootstrap": 20,
            "lstm_hidden_size": 8, "hub_model_id": "acme/head",
        },
        "mmbt": {
            "task": "image_text", "data": "pictures", "text_model": "text-model", "image_model": "./image-model",
            "num_image_embeds": 1, "max_length": 16, "bootstrap": 20, "hub_model_id": "acme/mmbt",
            "eval_steps": 1,
        },
    }  # fmt: skip
    for name, values in recipes.items():
        output = str(root / name) if name != "mmbt" else f"runs-of-{CLIENT}"
        (root / f"{name}.yaml").write_text(yaml.safe_dump({**values, **TRAINING, "output_dir": output}))
    with HubServer() as hub:
        said = run_session(
            hub,
            root,
            ["pretrain", str(root / "encoder.yaml")],
            ["finetune", str(root / "head.yaml")],
            ["finetune", "mmbt.yaml", "--logging_steps", "1"],
            ["finetune", str(root / "head.yaml"), "--hub_model_id", "acme/later"],
            ["push_to_hub", str(root / "head"), "acme/again"],
            ["push_to_hub", f"runs-of-{CLIENT}", "acme/pictures", "--public"],
            ["push_to_hub", str(root / "head"), "acme/shown", "--examples"],
            ["push_to_hub", f"runs-of-{CLIENT}", "acme/shown-pictures", "--examples"],
        )
        yield hub.repositories, said, root


def arrived(repository: Repository) -> dict[str, bytes]:
    """Every file of every commit."""
    return {f"{sha[:6]} {name}": body for sha, files in repository.commits.items() for name, body in files.items()}


PRIVATE = ("acme/encoder", "acme/head", "acme/mmbt", "acme/later", "acme/again", "acme/pictures")
SHOWN = ("acme/shown", "acme/shown-pictures")


@pytest.mark.slow
@pytest.mark.parametrize("name", PRIVATE)
def test_no_row_picture_or_path_arrives(pushed, name):
    repositories, _, root = pushed
    amounts = [line.split(",")[3] for line in (root / "payments.csv").read_text().splitlines()[1:]]
    forbidden = {CUSTOMER, CLIENT, str(root), str(Path.home()), "hf_secret", "data:image/jpeg"}
    forbidden |= {platform.node()} if len(platform.node()) > 5 else set()
    files = arrived(repositories[name])
    assert any(file.endswith("model.safetensors") for file in files)
    for file, body in files.items():
        found = [word for word in forbidden if word.encode() in body]
        assert not found, (file, found)
        if file.endswith((".md", ".html", ".yaml", ".json")):  # pictures and weights hold any few bytes
            text = body.decode()
            text = "" if file.endswith("preprocessor_config.json") else text  # its lowest and highest amount are told
            assert not [amount for amount in amounts if amount in text], file
    for picture in (root / "pictures" / "img").iterdir():
        assert picture.read_bytes() not in files.values()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_examples_arrive_where_they_are_asked_for_without_paths(pushed, name):
    repositories, said, root = pushed
    page = repositories[name].files()["report/report.html"].decode()
    assert CUSTOMER in page and str(root) not in page and CLIENT not in page
    assert ("data:image/jpeg" in page) == (name == "acme/shown-pictures")
    assert "ROWS, TEXTS AND PICTURES of the data" in said


@pytest.mark.slow
def test_only_files_of_the_list_arrive(pushed):
    repositories, _, _ = pushed
    for name in (*PRIVATE, *SHOWN):
        for file in arrived(repositories[name]):
            assert not file.endswith(("training_args.bin", ".parquet", ".jsonl", ".arrow", "column_plan.yaml", ".txt"))
            assert "predictions" not in file and "events.out" not in file and "_public" not in file
    kept = {file for file in repositories["acme/head"].files() if file.startswith("last-checkpoint/")}
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/trainer_state.json"} <= kept


@pytest.mark.slow
def test_repositories_are_private_unless_told(pushed):
    repositories, said, _ = pushed
    assert [name for name, one in repositories.items() if not one.private] == ["acme/pictures"]
    assert "To acme/again (private" in said and "To acme/pictures (PUBLIC" in said


@pytest.mark.slow
def test_what_goes_is_listed_with_what_it_holds(pushed):
    _, said, _ = pushed
    assert "VALUES as they stand in the data, of shop (3)" in said
    assert "names of labels: no, yes" in said
    assert "weights, learned from the data" in said


@pytest.mark.slow
def test_the_card_names_the_model_of_the_hub_and_still_says_how_to_repeat(pushed):
    repositories, _, _ = pushed
    card = repositories["acme/again"].files()["README.md"].decode()
    assert 'from_pretrained("acme/again")' in card and "hf_mmtab predict acme/again table.csv" in card
    assert "python -m hf_mmtab finetune head.yaml" in card
    recipe = yaml.safe_load(repositories["acme/mmbt"].files()["recipe.yaml"])
    assert (recipe["data"], recipe["text_model"], recipe["output_dir"]) == ("pictures", "text_model", "run")
    assert recipe["num_image_embeds"] == 1
    results = json.loads(repositories["acme/again"].files()["results.json"])
    assert "accuracy" in results["metrics"]["test"] and not {"skipped", "summary", "data_digest"} & set(results)


def test_fields_that_name_rows_or_entities_are_told(tmp_path):
    plan = {"entity": ["who"], "fields": [{"name": "who"}, {"name": "note"}, {"name": "street", "static": True}]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"plan": plan, "rows_fitted": 400}))
    values = {"who": ["a"], "note": [str(i) for i in range(390)], "street": [str(i) for i in range(60)], "shop": ["b"]}
    (tmp_path / "tabbert_values.json").write_text(json.dumps(values))
    told = vocabulary_warnings(tmp_path)
    assert [line.split("'")[1] for line in told] == ["who", "note", "street"]
    assert "is the entity column" in told[0] and "nearly as many values as there are rows (400)" in told[1]


@pytest.mark.nightly
def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path):
    with HubServer() as hub:
        environment = {**os.environ, **hub.environment(tmp_path), "HF_MMTAB_TRACEBACK": ""}
    code = (
        "import sys; from huggingface_hub import HfApi; from hf_mmtab.publishing import create_repository\n"
        "from hf_mmtab.commands.console import run\n"
        "run(lambda _: create_repository(HfApi(), 'acme/x', True, 'my run'), [])"
    )
    environment["PYTHONPATH"] = str(TESTS.parent)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot be reached" in done.stderr and "Nothing is lost: 'my run' is as it was." in done.stderr
    assert "python -m hf_mmtab push_to_hub 'my run' acme/x" in done.stderr


@pytest.mark.parametrize(
    "error", [RuntimeError("Error while uploading 'model.safetensors'"), ConnectionResetError("reset by peer")]
)
def test_a_hub_that_dies_in_mid_upload_is_told(error):
    told = pytest.raises(ConnectionError, match=r"cannot be reached \(.*\). Nothing is lost: 'run' .*Run the same")
    with told, hub_errors("run", "acme/x"):
        raise error


def test_the_folder_of_another_run_is_told_by_what_it_was_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "ZQACME Bank").mkdir(parents=True)
    recipe = {"pretrained": "outputs/ZQACME Bank", "text_model": "bert-base-uncased", "output_dir": "outputs/ZQBETA"}
    paths = LocalPaths(recipe, "outputs/ZQBETA")
    assert paths.recipe(recipe) == {"pretrained": "pretrained", "text_model": "bert-base-uncased", "output_dir": "run"}
    said = paths.text("Encoder: outputs/ZQACME Bank") + paths.command("hf-mmtab x --pretrained 'outputs/ZQACME Bank'")
    assert "ZQ" not in said + str(paths.value("encoder", "outputs/ZQACME Bank"))


def test_a_folder_beside_the_run_is_no_name_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "pre").mkdir()
    starts = ["pre", "bert-base-uncased", "acme/start", None]
    for here in (tmp_path, tmp_path.parent):  # the run's own folder tells it, wherever the command runs
        monkeypatch.chdir(here)
        assert hub_names(starts, LocalPaths({}, tmp_path / "fin")) == ["bert-base-uncased", "acme/start"]
