"""A recipe with `lora`: adapters while it trains, a plain model at its end."""

import json

import pytest
import torch
from running import killed_at_step
from transformers import AutoModelForSequenceClassification

from hf_mmtab.commands.finetune import main

pytest.importorskip("peft")
LORA = ["--lora", "{r: 2}", "--freeze", "{text_encoder: 1 epoch}"]


@pytest.mark.slow
def test_a_run_with_adapters_ends_in_a_plain_model_that_resumes_bit_equal(recipe, tmp_path):
    main([str(recipe), "--output_dir", str(tmp_path / "whole"), *LORA])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole")
    assert not any("lora" in name for name, _ in model.named_modules())
    assert not list((tmp_path / "whole").glob("adapter_*"))
    assert list((tmp_path / "whole").glob("checkpoint-*/adapter_model.safetensors"))
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert 0 <= results["metrics"]["test"]["accuracy"] <= 1

    with killed_at_step(6, "enter_epoch"):
        main([str(recipe), *LORA])
    main([str(recipe), *LORA])
    resumed = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in model.state_dict().items())
    main([str(recipe), *LORA, "--overwrite", "true", "--num_train_epochs", "1"])  # removes its own files only
