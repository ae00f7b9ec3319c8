"""What training must know of the labels: how often it meets each class."""

import numpy as np
import torch
from torch import nn

from hf_mmtab.tasks.table_labels import ClassShares, start_bias


def test_a_new_classifier_starts_from_the_share_of_each_class_in_training():
    classifier = nn.Linear(3, 2)
    start_bias(classifier, ClassShares(actual=np.array([0.998, 0.002]), trained=np.array([0.9, 0.1])))
    torch.testing.assert_close(classifier(torch.zeros(3)).softmax(dim=-1), torch.tensor([0.9, 0.1]))


def test_a_class_that_never_occurs_has_a_finite_start():
    classifier = nn.Linear(3, 2)
    start_bias(classifier, ClassShares(actual=np.array([1.0, 0.0]), trained=np.array([1.0, 0.0])))
    assert classifier.bias.isfinite().all()
