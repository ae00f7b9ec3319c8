"""`python -m hf_mmtab.training.audit CHECKPOINT_A CHECKPOINT_B`"""

from .command import main

main()
