"""`demo CHECKPOINT`: a page on which a person tries a model, and sees why it says so (extra `demo`).

The folder works as a Space on the Hub with an `app.py` of two lines:
`from hf_mmtab.demo import make_demo` and `make_demo("NAME/MODEL").launch()`.
"""

from collections.abc import Sequence

from ..tasks.checkpoints import is_table_checkpoint
from .console import start_logging
from .damaged_files import damage_named
from .flags import parse


def main(arguments: Sequence[str]) -> None:
    """Show the page until it is interrupted."""
    start_logging()
    options = parse("demo", arguments)
    from ..demo import make_demo

    with damage_named(options.checkpoint):
        page = make_demo(options.checkpoint, is_table_checkpoint(options.checkpoint), options.examples)
    page.launch(server_name=options.host, server_port=options.port, share=False)
