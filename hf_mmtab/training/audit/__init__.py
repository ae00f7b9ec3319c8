"""The update audit: what moved, by how much, or why not; during a run and between two saved checkpoints."""

from .command import main
from .update_audit import UpdateAudit
