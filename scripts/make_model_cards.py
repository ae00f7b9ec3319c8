"""Write `model_cards/RECIPE.md` of every recipe from `model_cards/cards.yaml`: what it is, and what it reached here.

python scripts/make_model_cards.py

The head is the YAML that the Hub reads: library, task, what the weights start from, and results as a model index.
"""

import textwrap
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.metrics.names import metric_name
from hf_mmtab.model_card.writing import card_header
from hf_mmtab.publishing.local_paths import LocalPaths, hub_names
from hf_mmtab.recipes import find_recipe
from hf_mmtab.reports.facts import RunFacts

ROOT = Path(__file__).resolve().parent.parent / "model_cards"
BULLETS = {
    "run": "Recipe", "method": "Method", "data": "Data", "judged_by": "Selected and judged by",
    "trained": "Trained here", "mind": "Mind", "licence": "Licence",
}  # fmt: skip


def card_of(name: str, told: dict[str, Any]) -> str:
    """Return the card of a recipe.

    Args:
        name: of the recipe.
        told: of it in `cards.yaml`.
    """
    recipe = yaml.safe_load(Path(find_recipe(name)).read_text(encoding="utf-8"))
    results = told.get("results", {})
    means = {metric: numbers[0] for metric, numbers in results.items()}
    facts = RunFacts(name, told["problem_type"], {}, results=RunResults("", "", "test", metrics={"test": means}))
    header = card_header(
        facts,
        "mmbt" if recipe.get("text_model") else "tabbert",
        license=told.get("license"),
        base_models=hub_names([recipe.get("text_model"), recipe.get("image_model")], LocalPaths()),
        data_name=told["data_name"],
        tags=["recipe"],
    )
    for result in header.eval_results or []:
        result.metric_type = result.metric_type.partition(" of ")[0]  # "accuracy of FIELD"
    lines = [f"# {name}: {told['title']}", "", told["task"], ""]
    for key, label in BULLETS.items():
        if key in told:
            text = f"`scripts/recipes/{name}.yaml`; run it with {told[key]}" if key == "run" else told[key]
            lines.append(textwrap.fill(f"* **{label}**: {text}", 118, subsequent_indent="  ", break_long_words=False))
    if results:
        lines += [
            "",
            f"Test, {told['seeds']} seeds (mean, spread):",
            "",
            "| metric | mean | spread |",
            "|---|---:|---:|",
        ]
        lines += [f"| {metric_name(metric)} | {mean} | {spread} |" for metric, (mean, spread) in results.items()]
    return f"---\n{header.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Write all cards."""
    cards = yaml.safe_load((ROOT / "cards.yaml").read_text(encoding="utf-8"))
    for name, told in cards.items():
        ModelCard(card_of(name, told)).save(ROOT / f"{name}.md")


if __name__ == "__main__":
    main()
