"""Write what a TabBERT encoder makes of each row of a table to a Parquet file, for models beside the neural one.

python scripts/embed.py CHECKPOINT payments.csv embeddings.parquet
python scripts/embed.py CHECKPOINT payments.csv embeddings.parquet --level window --float16
"""

import sys

from hf_mmtab.commands.console import run
from hf_mmtab.commands.embed import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
