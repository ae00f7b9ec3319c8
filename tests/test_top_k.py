"""`top_k` of pipelines and services: a whole number from 1 on, None or "decided"."""

import numpy as np
import pytest
from transformers import PreTrainedConfig

from hf_mmtab.pipelines import TASKS
from hf_mmtab.serving.named_scores import answers
from hf_mmtab.serving.predictor import Predictor

KINDS = ["single_label_classification", "multi_label_classification", "regression"]
LOGITS = np.array([0.5, -1.0, 2.0], dtype=np.float32)


def ask_answers(top_k):
    return answers(LOGITS, PreTrainedConfig(num_labels=3, problem_type=KINDS[0]), top_k)


def ask_regression(top_k):
    return answers(LOGITS, PreTrainedConfig(num_labels=3, problem_type="regression"), top_k)


def ask_predictor(top_k):
    return Predictor.many(object.__new__(Predictor), [], top_k=top_k)


def ask_pipelines(top_k):
    return [made._sanitize_parameters(object.__new__(made), top_k=top_k) for made in TASKS.values()]


@pytest.mark.parametrize("asked", [ask_answers, ask_regression, ask_predictor, ask_pipelines])
@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "x", [1], np.int64(0)])
def test_a_number_of_labels_that_no_answer_has_is_refused(asked, top_k):
    with pytest.raises(ValueError, match="Expected top_k to be a whole number from 1 on, None"):
        asked(top_k)
    for good in (1, np.int64(2), 99, None, "decided"):
        asked(good)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_highest_scores_are_given(kind):
    config = PreTrainedConfig(num_labels=3, problem_type=kind)
    counted = [len(answers(LOGITS, config, top_k)) for top_k in (1, np.int64(2), 3, 99, None)]
    assert counted == [1, 2, 3, 3, 3]
    assert [one["label"] for one in answers(LOGITS, config, 2)] == ["LABEL_2", "LABEL_0"]
