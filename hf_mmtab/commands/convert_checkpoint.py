"""`convert_checkpoint KIND SRC DST`: a checkpoint of an original becomes one of ours, or the way back.

| KIND                 | SRC                                                                                |
|----------------------|------------------------------------------------------------------------------------|
| `mmbt`               | run folder of facebookresearch/mmbt (`model_best.pt`, `args.pt`), any of its models |
| `mmbt_transformers4` | `pytorch_model.bin` (or its folder) of the MMBT of transformers 2 to 4             |
| `tabformer`          | checkpoint folder of IBM/TabFormer, BERT or GPT-2 (`pytorch_model.bin`, `config.json`) |
| `lstm`               | state dict of the published BertModel + LSTM + Linear; `--config` of its pretraining |

Nothing in SRC is run: pickles are read with inert stand-ins. DST is written when it is whole.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..converting.to_original import revert_checkpoint
from ..converting.to_ours import CONVERTERS, convert_checkpoint
from .console import say

MOST_SAID = 4000  # characters of an error; names and values of a file may be of any length


def main(arguments: Sequence[str]) -> None:
    """Convert as the command line says."""
    options = _parser().parse_args(arguments)
    convert = revert_checkpoint if options.reverse else convert_checkpoint
    try:
        say(convert(options))
    except ValueError as error:
        text = str(error)
        if len(text) <= MOST_SAID:
            raise
        raise ValueError(f"{text[: MOST_SAID // 2]} … {text[-MOST_SAID // 2 :]}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hf-mmtab convert_checkpoint", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=list(CONVERTERS))
    parser.add_argument("src", type=Path, help="checkpoint of the original; with --reverse, folder of ours")
    parser.add_argument("dst", type=Path, help="folder to write; must not exist")
    parser.add_argument("--reverse", action="store_true", help="ours → the original's (mmbt, tabformer)")
    mmbt = parser.add_argument_group("what the files of a run may not tell (mmbt, mmbt_transformers4)")
    mmbt.add_argument("--args", type=Path, help="args.pt, if it does not lie beside the checkpoint")
    mmbt.add_argument("--model", help="mmbt, bow, img, bert, concatbow or concatbert")
    mmbt.add_argument("--task", help="mmimdb, food101 or vsnli")
    mmbt.add_argument("--task_type", help="multilabel or classification")
    mmbt.add_argument("--labels", nargs="+", help="names in the order of outputs, or a file of one a line")
    mmbt.add_argument("--tokenizer", help="folder or Hub name, in place of the run's vocabulary")
    mmbt.add_argument("--num_image_embeds", type=int)
    mmbt.add_argument("--img_embed_pool_type", choices=["avg", "max"])
    mmbt.add_argument("--max_seq_len", type=int)
    mmbt.add_argument("--num_attention_heads", type=int, help="of a BERT that is neither base nor large")
    table = parser.add_argument_group("tabformer, lstm")
    table.add_argument("--config", type=Path, help="config.json of the pretraining, or its folder")
    table.add_argument("--vocab", type=Path, help="vocab.nb, vocab_token2id.bin; mmbt: vocab.txt, GloVe")
    table.add_argument("--encoder_fit", type=Path, help="encoder_fit.pkl of the run")
    table.add_argument(
        "--field_ce", action=argparse.BooleanOptionalAction, help="how a flat model was trained, if unknown"
    )
    return parser
