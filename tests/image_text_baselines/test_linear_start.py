"""A probe of the mean of the regions is a linear layer of all of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from hf_mmtab.image_text_baselines.linear_start import LinearStarter
from hf_mmtab.image_text_baselines.logistic import fit_splits
from hf_mmtab.models.mmbt import MMBTBaselineConfig

TEXT, REGIONS, SIZE = 5, 3, 40


@pytest.mark.parametrize("several", [False, True])
def test_the_mean_of_the_regions_serves_where_validation_likes_it_better(monkeypatch, several):
    rng = np.random.default_rng(0)
    read, labels = {}, {}
    for split, rows in (("train", 60), ("validation", 200)):
        text, place = rng.normal(size=(rows, TEXT)), rng.normal(size=(rows, 1, SIZE))
        regions = place + 2 * rng.normal(size=(rows, REGIONS, SIZE))  # each tells of the place with noise of its own
        read[split] = np.hstack([text, regions.reshape(rows, -1)])
        is_high = (place[:, 0, 0] + text[:, 0] > 0).astype(int)
        labels[split] = np.stack([is_high, 1 - is_high], axis=1) if several else is_high
    starter = LinearStarter.__new__(LinearStarter)
    kind = {"model_type": MMBTBaselineConfig.model_type, "image_config": {}, "hidden_sizes": None, "num_labels": 2}
    starter.model = SimpleNamespace(config=SimpleNamespace(**kind, num_image_embeds=REGIONS, image_hidden_size=SIZE))
    starter.labels = labels
    monkeypatch.setattr(starter, "_read", read.get, raising=False)
    flattened = fit_splits(read, labels, 2)
    probe = starter._probe()
    assert probe.loss < flattened.loss and probe.weights.shape == (2, TEXT + REGIONS * SIZE)
    of_regions = probe.weights[:, TEXT:].reshape(2, REGIONS, SIZE)
    assert np.allclose(of_regions, of_regions[:, :1])
    regions = read["validation"][:, TEXT:].reshape(-1, REGIONS, SIZE)
    averaged = np.hstack([read["validation"][:, :TEXT], regions.mean(axis=1)])
    summed = np.hstack([probe.weights[:, :TEXT], of_regions.sum(axis=1)])
    assert np.allclose(read["validation"] @ probe.weights.T, averaged @ summed.T)
