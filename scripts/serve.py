"""Answer over HTTP with an exported model, without torch.

python scripts/serve.py FOLDER --port 8000
"""

import sys

from hf_mmtab.commands.serve import main

if __name__ == "__main__":
    main(sys.argv[1:])
