"""The arrows of the package: what may import what (raw files → data → processor → model → training → report)."""

import ast
from pathlib import Path

import pytest

import hf_mmtab

PACKAGE = Path(hf_mmtab.__file__).parent
FLOORS = ("models", "data", "training")


def imported_modules(file: Path) -> set[str]:
    """Return the modules of hf_mmtab that a file imports, as dotted paths below the package."""
    here = file.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = here[: len(here) - node.level]
                found.add(".".join([*base, *([node.module] if node.module else [])]))
                found.update(
                    ".".join([*base, *([node.module] if node.module else []), name.name]) for name in node.names
                )
            elif node.module and node.module.split(".")[0] == "hf_mmtab":
                found.update(".".join([*node.module.split(".")[1:], name.name]) for name in node.names)
        elif isinstance(node, ast.Import):
            found.update(n.name.removeprefix("hf_mmtab.") for n in node.names if n.name.startswith("hf_mmtab."))
    return found


def files_of(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


@pytest.mark.parametrize("floor", FLOORS)
def test_models_data_and_training_never_import_one_another(floor):
    others = {name for name in FLOORS if name != floor}
    crossing = {
        str(file.relative_to(PACKAGE)): sorted(
            module for module in imported_modules(file) if module.split(".")[0] in others
        )
        for file in files_of(floor)
    }
    assert {file: modules for file, modules in crossing.items() if modules} == {}


@pytest.mark.parametrize(("family", "other"), [("mmbt", "tabbert"), ("tabbert", "mmbt")])
def test_the_families_never_import_each_other(family, other):
    for file in files_of(f"models/{family}"):
        assert not [module for module in imported_modules(file) if module.startswith(f"models.{other}")], file


@pytest.mark.parametrize("family", ["mmbt", "tabbert"])
def test_a_model_folder_imports_its_own_files_and_what_both_share_so_that_all_travel_with_a_checkpoint(family):
    own = ("models.checked_", "models.travelling", f"models.{family}")
    for file in [*files_of(f"models/{family}"), *(PACKAGE / "models").glob("*.py")]:
        assert [module for module in imported_modules(file) if not module.startswith(own)] == [], file


UPPER = {  # what the files of a folder must not import
    **dict.fromkeys((*FLOORS, "metrics"), ("evaluation", "reports", "model_card", "tasks", "commands", "converting")),
    "converting": ("evaluation", "reports", "model_card", "tasks", "commands"),
    "evaluation": ("reports", "model_card", "tasks", "commands"),
    "reports": ("model_card", "tasks", "commands"),
    "model_card": ("tasks", "commands"),
    "statistics": ("evaluation", "reports", "model_card", "tasks", "commands", "converting", "table_baselines"),
    **dict.fromkeys(("table_baselines", "image_text_baselines"), ("reports", "model_card", "commands")),
    "tasks": ("reports", "model_card", "commands"),
    "explaining": ("tasks", "reports", "model_card", "commands", "training"),
}


@pytest.mark.parametrize("folder", UPPER)
def test_no_import_points_backwards(folder):
    assert files_of(folder)
    for file in files_of(folder):
        assert not [m for m in imported_modules(file) if m.split(".")[0] in UPPER[folder]], file


ROOMS = {  # of `data`, and what the files of each must not import: files are read, cut into windows, written as shards
    "reading": ("pictures", "windows", "shards"),
    "pictures": ("windows", "shards"),
    "windows": ("pictures", "shards"),
    "shards": ("pictures",),
}


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_of_data_follow_one_another(room):
    assert files_of(f"data/{room}")
    later = tuple(f"data.{other}" for other in ROOMS[room])
    for file in files_of(f"data/{room}"):
        assert not [module for module in imported_modules(file) if module.startswith(later)], file
