"""`export CHECKPOINT OUT`: a model as ONNX with its processor, for services without torch.

Batch and length are free. The file is run by onnxruntime at other sizes than it was exported with and compared with
torch; a model that differs is not written.
"""

import importlib.util
from collections.abc import Sequence

from ..exporting import export_checkpoint
from ..exporting.settings import is_pretrained
from ..tasks.checkpoints import saved_config
from .console import say, start_logging
from .damaged_files import damage_named
from .flags import parse
from .outputs import check_output

NEEDED = ("onnx", "onnxscript", "onnxruntime")


def main(arguments: Sequence[str]) -> None:
    """Export as the command line says.

    Raises:
        ModuleNotFoundError: if a package of the extra is absent.
    """
    start_logging()
    options = parse("export", arguments)
    if absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"Expected the packages {', '.join(NEEDED)}, found no {', '.join(absent)}. Install them: "
            'pip install "hf-mmtab[export]"'
        )
    check_output(options.out, [options.checkpoint])
    with damage_named(options.checkpoint):
        config = saved_config(options.checkpoint)
        found = export_checkpoint(options.checkpoint, options.out, options.int8)
    use = f"serve it with `hf-mmtab serve {options.out}`"
    if is_pretrained(config):
        use = "its outputs are scores of masked cells: run model.onnx with onnxruntime"
    say("\n".join([*found, f"Written to {options.out}; {use}"]))
