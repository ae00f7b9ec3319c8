"""Build the splits of pictures and texts as the commands do."""

from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.image_text_loading import SAMPLE_PREFIX
from hf_mmtab.data.pictures.files import sample_path


def load_image_text(data, cache_dir=None, **options):
    """Return the splits, and the records that were left out."""
    if isinstance(data, str) and data.startswith(SAMPLE_PREFIX):
        data = sample_path(data.removeprefix(SAMPLE_PREFIX))
    builder = ImageText(data, cache_dir=cache_dir, **options)
    builder.download_and_prepare()
    return builder.as_dataset(), builder.skipped
