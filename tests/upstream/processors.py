"""transformers' tests of processors over ours; run by `test_transformers_suites.py`, or alone.

What does not apply as a whole:

* `PipelineTesterMixin` goes through the tasks in transformers' own table of tiny models on the Hub; our two tasks are
  not in it. `tests/test_pipelines.py` holds what it would ask of them.
* `ImageProcessingTestMixin` compares a slow and a fast class of one image processor; ours is one class per model.
* `ConfigTester` reads values from a file that the source distribution leaves out.
"""

import unittest
from typing import Any

from models import without
from suites import load
from transformers import BertTokenizer, ViTImageProcessor

from hf_mmtab.models.mmbt import MMBTProcessor
from hf_mmtab.models.tabbert import TabBertProcessor

features: Any = load("test_feature_extraction_common")
processing: Any = load("test_processing_common")


NAMED = dict.fromkeys(
    [
        "test_call_arguments_default_none",
        "test_call_arguments_not_in_attributes",
        "test_call_arguments_not_in_processor_kwargs",
        "test_doubly_passed_kwargs",
        "test_init_arguments_not_in_processor_kwargs",
        "test_kwargs_overrides_default_subprocessor_kwargs",
        "test_overlapping_text_image_kwargs_handling",
        "test_structured_kwargs_nested_from_dict",
        "test_subprocessor_defaults_preserved_by_kwargs",
        "test_unstructured_kwargs",
        "test_unstructured_kwargs_batched",
    ],
    "arguments are named, so that a misspelt one is an error; those of pictures go into images_kwargs",
)
ONE_PICTURE = {
    "test_processor_text_has_no_visual": "one picture, or none, for a text: no lists of pictures",
    "test_replacement_offsets": "texts hold no placeholder of a picture",
    "test_subprocessor_defaults": "words come without [CLS] and [SEP], which stand around the picture's tokens",
}


class TabBertProcessorTest(features.FeatureExtractionSavingTestMixin, unittest.TestCase):
    feature_extraction_class = TabBertProcessor

    @property
    def feat_extract_dict(self) -> dict[str, Any]:
        return {"plan": {"entity": ["who"], "fields": [{"kind": "categorical", "name": "shop"}]}}


@without(NAMED, ONE_PICTURE)
class MMBTProcessorTest(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = MMBTProcessor

    @classmethod
    def _setup_tokenizer(cls) -> Any:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lower", "newer", "a", "b"]
        return BertTokenizer(vocab={word: place for place, word in enumerate(words)})

    @classmethod
    def _setup_image_processor(cls) -> Any:
        return ViTImageProcessor(size={"height": 32, "width": 32})
