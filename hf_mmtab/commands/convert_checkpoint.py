"""`convert_checkpoint KIND SRC DST`: a checkpoint of an original becomes one of ours, or the way back.

| KIND                 | SRC                                                                                |
|----------------------|------------------------------------------------------------------------------------|
| `mmbt`               | run folder of facebookresearch/mmbt (`model_best.pt`, `args.pt`), any of its models |
| `mmbt_transformers4` | `pytorch_model.bin` (or its folder) of the MMBT of transformers 2 to 4             |
| `tabformer`          | checkpoint folder of IBM/TabFormer, BERT or GPT-2 (`pytorch_model.bin`, `config.json`) |
| `lstm`               | state dict of the published BertModel + LSTM + Linear; `--config` of its pretraining |

Nothing in SRC is run: pickles are read with inert stand-ins. DST is written when it is whole.
"""

from collections.abc import Sequence

from ..converting.to_original import revert_checkpoint
from ..converting.to_ours import convert_checkpoint
from .console import say
from .flags import parse

MOST_SAID = 4000  # characters of an error; names and values of a file may be of any length


def main(arguments: Sequence[str]) -> None:
    """Convert as the command line says."""
    options = parse("convert_checkpoint", arguments)
    convert = revert_checkpoint if options.reverse else convert_checkpoint
    try:
        say(convert(options))
    except ValueError as error:
        text = str(error)
        if len(text) <= MOST_SAID:
            raise
        raise ValueError(f"{text[: MOST_SAID // 2]} … {text[-MOST_SAID // 2 :]}") from error
