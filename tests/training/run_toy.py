"""Trains toy models as a script: under accelerate launch with two processes, or to be killed.

The argument is a JSON file with a list of scenarios: {"name", "folder", "settings", "model", "resume", "kill", …}.
One that is killed runs in a fork, and `FOLDER.exit` holds its exit status. Each other one writes
`NAME-RANK.safetensors` (weights, gathered) and `NAME-RANK.json` (facts) into its folder.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import save_file
from toy import ToyRows, toy_arguments, toy_model
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, TrainerCallback

from hf_mmtab.training import MMTabTrainer


class Words(ToyRows):
    """Only words, for a BERT."""

    def __getitem__(self, index):
        return {"input_ids": self.words[index], "labels": self.labels[index]}


class Sentences(ToyRows):
    """Words whose language-model labels differ in number from row to row."""

    def __getitem__(self, index):
        labels = self.words[index].clone()
        labels[: index % 5] = -100
        return {"input_ids": self.words[index], "labels": labels}


def tiny_gpt2():
    torch.manual_seed(0)
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, **dropout))


def tiny_bert():
    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(**sizes, **dropout, intermediate_size=32, num_labels=3))


class ShardedTrainer(MMTabTrainer):
    """Lets accelerate shard on CPU (FSDP2), which it only does on accelerators; on CPU it falls back to DDP."""

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        self.accelerator.state.distributed_type = DistributedType.FSDP
        self.accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        self.is_fsdp_enabled = True


class Kill(TrainerCallback):
    """Ends the process like `kill -9` before the optimizer step `at`."""

    def __init__(self, at):
        self.at = at

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class CountBytes(TrainerCallback):
    """Counts the bytes of gradients that DDP reduces in each optimizer step."""

    def __init__(self, trainer):
        self.trainer, self.per_step, self.now = trainer, [], 0

    def on_step_begin(self, args, state, control, **kwargs):
        self.now = 0
        wrapped = self.trainer.model_wrapped
        if hasattr(wrapped, "register_comm_hook") and not wrapped._comm_hooks:
            wrapped.register_comm_hook(None, self.reduce)

    def reduce(self, state, bucket):
        self.now += bucket.buffer().numel() * bucket.buffer().element_size()
        work = torch.distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
        return work.then(lambda done: done.value()[0] / torch.distributed.get_world_size())

    def on_step_end(self, args, state, control, **kwargs):
        self.per_step.append(self.now)


def one_number(prediction):
    """A metric that stalls: it depends on the weights, but hardly."""
    return {"score": round(float(abs(prediction.predictions).mean()), 1)}


def build(scenario):
    """Return the trainer of a scenario."""
    kind = scenario.get("kind")
    data = {"bert": Words, "gpt2": Sentences}.get(kind, ToyRows)
    if kind is None:
        model = toy_model(**{"dropout": 0.0, "batch_norm": False, **scenario.get("model", {})})
    else:
        model = {"bert": tiny_bert, "gpt2": tiny_gpt2}[kind]()
    rows = data(scenario.get("rows", 32))
    args = toy_arguments(scenario["folder"], **scenario["settings"])
    metrics = one_number if args.metric_for_best_model else None
    trainer = (ShardedTrainer if args.fsdp else MMTabTrainer)(
        model,
        args,
        label_counts=[10, 12, 10],
        train_dataset=rows,
        eval_dataset=data(12, seed=1),
        compute_metrics=metrics,
    )
    if scenario.get("kill") is not None:
        trainer.add_callback(Kill(scenario["kill"]))
    return trainer


def kill_while_saving(trainer, at):
    """End the process in the middle of writing the checkpoint of step `at`, before the trainer's state."""
    save = trainer._save_rng_state

    def save_and_die(folder):
        save(folder)
        if trainer.state.global_step == at:
            (Path(folder) / "trainer_state.json").write_text('{"global_step": ')
            os.kill(os.getpid(), signal.SIGKILL)

    trainer._save_rng_state = save_and_die


def full_weights(trainer):
    """Return the whole state dict on every rank."""
    state = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone().contiguous()
        for name, value in state.items()
    }


def main(path):
    """Run all scenarios of a file."""
    gc.freeze()  # what the imports made is collected at each start and end of a training, a third of a second each
    for scenario in json.loads(Path(path).read_text()):
        if ("kill" in scenario or "kill_while_saving" in scenario) and (child := os.fork()):
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            Path(f"{scenario['folder']}.exit").write_text(str(status))
            continue
        trainer = build(scenario)
        count = CountBytes(trainer)
        if scenario.get("count_bytes"):
            trainer.add_callback(count)
        if scenario.get("kill_while_saving") is not None:
            kill_while_saving(trainer, scenario["kill_while_saving"])
        trainer.train(resume_from_checkpoint=scenario.get("resume"))
        rank = trainer.args.process_index
        target = Path(scenario["folder"]) / f"{scenario['name']}-{rank}"
        save_file(full_weights(trainer), f"{target}.safetensors")
        facts = {
            "world": trainer.args.world_size,
            "steps": trainer.state.global_step,
            "bytes": count.per_step,
            "sharded": any(hasattr(p, "full_tensor") for p in trainer.model.parameters()),
            "image_calls": getattr(trainer.model, "image_calls", None),
            "learning_rate": [group["lr"] for group in trainer.optimizer.param_groups],
            "log": trainer.state.log_history,
        }
        Path(f"{target}.json").write_text(json.dumps(facts))
        trainer.accelerator.free_memory()


if __name__ == "__main__":
    main(sys.argv[1])
