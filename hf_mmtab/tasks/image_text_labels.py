"""Labels of pictures and texts as a saved model numbers them."""

from typing import Any

import datasets

from ..metrics.names import label_names


def label_ids_of_model(rows: datasets.Dataset, config: Any) -> datasets.Dataset:
    """Number the labels of rows as a model does, by name.

    Raises:
        ValueError: if the rows have a label that the model does not know, or another kind of label.
    """
    several = config.problem_type == "multi_label_classification"
    column = "labels" if several else "label"
    if column not in rows.features:
        raise ValueError(
            f"Expected {'several labels' if several else 'one label'} for each row, as the model was trained, found "
            f"columns {rows.column_names}. Name the label column, or take a model of the other kind."
        )
    feature = rows.features[column].feature if several else rows.features[column]
    names = label_names(config)
    if feature.names == names:
        return rows
    if unknown := sorted(set(feature.names) - set(names)):
        raise ValueError(
            f"Expected labels that the model knows ({', '.join(names)}), found {', '.join(unknown)} as well. "
            "Rename or remove these rows."
        )
    number = [names.index(name) for name in feature.names]
    wanted = datasets.ClassLabel(names=names)
    features = rows.features.copy()
    features[column] = datasets.List(wanted) if several else wanted
    return rows.map(
        lambda row: {column: [number[i] for i in row[column]] if several else number[row[column]]}, features=features
    )
