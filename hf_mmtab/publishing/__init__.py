"""What leaves this machine: public copies of a run's files, a list of what they hold, and the upload."""

from .holdings import vocabulary_warnings
from .public_files import PublicFile, listing, model_files, public_files, saved_names
from .standalone import make_standalone
from .uploading import create_repository, full_name, hub_errors, upload
