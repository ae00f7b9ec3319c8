"""Make the sample of openclipart that ships with the package: a stratified part of each split, pictures
embedded.

    python scripts/make_sample.py FOLDER hf_mmtab/data/samples/openclipart

FOLDER holds `{train,dev,test}.jsonl` and `img/` as made from the Debian packages openclipart-png and
openclipart-svg. Records keep the split that they have there; `keywords` are left out, since they give the
label away. The same input gives the same files.
"""

import argparse
import logging
from pathlib import Path

import datasets

from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.pictures.stratified import stratified_split

logger = logging.getLogger(__name__)

# Rows of each split, so that all files together stay under 10 MB at about 7 kB a picture.
ROWS = {"train": 940, "validation": 140, "test": 280}
SEED = 0


def take_part(rows: datasets.Dataset, wanted: int) -> datasets.Dataset:
    """Return about `wanted` rows with the classes' shares kept, in their old order."""
    share = wanted / len(rows)
    chosen = stratified_split(rows["label"], [share, 1 - share], SEED) == 0
    return rows.select(chosen.nonzero()[0])


def embed_pictures(rows: datasets.Dataset) -> datasets.Dataset:
    """Put the files' bytes into the table and forget where they were."""
    undecoded = rows.cast_column("image", datasets.Image(decode=False))

    def read(row: dict) -> dict:
        path = Path(row["image"]["path"])
        return {"image": {"bytes": path.read_bytes(), "path": path.name}}

    features = undecoded.features
    return undecoded.map(read, features=features, load_from_cache_file=False).cast_column("image", datasets.Image())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.target.mkdir(parents=True, exist_ok=True)

    builder = ImageText(arguments.source, check_images="decode")
    builder.download_and_prepare()
    total = 0
    for split, wanted in ROWS.items():
        rows = take_part(builder.as_dataset(split=split), wanted)
        rows = embed_pictures(rows.select_columns(["image", "text", "label", "id"]))
        path = arguments.target / f"{split}.parquet"
        rows.to_parquet(path)
        total += path.stat().st_size
        logger.info(f"{path.name}: {len(rows)} rows, {path.stat().st_size:,} bytes")
    logger.info(f"together {total:,} bytes")


if __name__ == "__main__":
    main()
