"""Documents stay true: links lead somewhere, commands and recipe keys exist, examples are Python."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from hf_mmtab.__main__ import COMMANDS
from hf_mmtab.arguments import (
    PretrainingArguments,
    TabBertHeadArguments,
    TabBertModelArguments,
    TableDataArguments,
    TableRunArguments,
)
from hf_mmtab.arguments.common import DataArguments, FinetuningArguments, ModelArguments
from hf_mmtab.commands import finetune, pretrain
from hf_mmtab.recipes import field_types

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("hf_mmtab/**/*.md"),
        *ROOT.glob("scripts/**/*.md"),
        *ROOT.glob("model_cards/*.md"),
    ]
    if ".venv" not in path.parts
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.S | re.M)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files(name):
    document = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("name", NAMES)
def test_python_examples_are_python(name):
    for block in blocks(ROOT / name, "python"):
        compile(block, name, "exec")


@pytest.mark.parametrize("name", [*NAMES, ".ci/run"])
def test_what_they_import_of_ours_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for module, names in re.findall(r"^from (hf_mmtab[\w.]*) import ([\w, ]+)$", text, re.M):
        for imported in names.split(", "):
            assert hasattr(importlib.import_module(module), imported), f"{module}.{imported}"


def benchmark_commands() -> list[list[str]]:
    found = []
    for path in [*DOCUMENTS, *(ROOT / "scripts" / "benchmarks").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        lines = re.findall(r"^ *python scripts/benchmark\.py ((?:.*\\\n)*.*)$", text, re.M)
        for command in [*lines, *re.findall(r"`[^`\n]*benchmark\.py ([^`]+)`", text)]:
            words = shlex.split(" ".join(command.replace("\\\n", " ").split()), comments=True)
            if words[0].replace("-", "").isalpha() and words[0].islower() and len(words) > 1:
                found.append(words)
    return found


def test_benchmark_commands_exist(monkeypatch):
    class Parsed(Exception):
        pass

    def parse(parser, arguments=None, namespace=None, own=argparse.ArgumentParser.parse_known_args):
        _, rest = own(parser, arguments, namespace)
        raise Parsed(rest)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
    monkeypatch.syspath_prepend(ROOT / "scripts" / "benchmarks")
    commands = benchmark_commands()
    assert len(commands) > 10
    for name, *arguments in commands:
        with pytest.raises(Parsed) as parsed:
            importlib.import_module(name.replace("-", "_")).main(arguments)
        assert name == "tabular-labels" or not parsed.value.args[0], (name, arguments)  # it hands the rest to finetune


def commands_in(document: Path) -> list[list[str]]:
    found = []
    for block in blocks(document, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for start in ("hf-mmtab", "scripts/finetune.py", "scripts/pretrain.py"):
                if start in words:
                    rest = words[words.index(start) + 1 :]
                    found.append(rest if start == "hf-mmtab" else [Path(start).stem, *rest])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_recipe_keys_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command, *arguments in commands_in(ROOT / name):
        assert command in COMMANDS, command
        if command in ("finetune", "pretrain") and "--help" not in arguments:
            load = {"finetune": finetune.load_recipe, "pretrain": pretrain.load_recipe}[command]
            arguments = ["5" if word == "S" else word for word in arguments]
            assert load(arguments).task.name


def test_the_documents_hold_commands():
    assert sum(len(commands_in(document)) for document in DOCUMENTS) > 15


def own_keys(kinds: list[type]) -> set[str]:
    """Keys of recipe classes without those that both families share, which the README of the package explains."""
    shared = {name for kind in (DataArguments, ModelArguments, FinetuningArguments) for name in field_types(kind)}
    return {name for kind in kinds for name in field_types(kind)} - shared


@pytest.mark.parametrize(
    "kinds",
    [[TableDataArguments, TabBertModelArguments, PretrainingArguments], [TabBertHeadArguments, TableRunArguments]],
)
def test_the_tables_of_tabbert_have_every_key_of_its_recipes(kinds):
    text = (ROOT / "hf_mmtab" / "models" / "tabbert" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*)\|", text, re.M)
    told = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    assert not own_keys(kinds) - told
