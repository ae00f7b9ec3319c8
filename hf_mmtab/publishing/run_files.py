"""Names of the files of a run that others may have."""

CARD_NAME = "README.md"
TRAINER_CARD = "<!-- written by MMTabTrainer, and anew at its next push -->"  # in a card of no run and no person
RECIPE_FILE = "recipe.yaml"
RESULT_FILE = "results.json"
SCHEDULE_FILE = "freeze_schedule.json"
REPORT_FOLDER = "report"
PAGE_NAME = "report.html"
PUBLIC_PAGE_NAME = "report_public.html"  # without rows of the data and local paths: what push_to_hub sends
FIGURES_FOLDER = "figures"
# "freezing" is of earlier versions; what it showed is in "update_audit".
FIGURE_NAMES = (
    "learning_curves", "freezing", "update_audit", "comparison", "ablation", "fields", "confusion", "precision_recall",
    "scores", "alerts", "episodes", "score_over_time", "calibration", "labels", "regression",
)  # fmt: skip
