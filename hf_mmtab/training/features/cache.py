"""Outputs of a frozen part, computed once per example and reused until the part thaws."""

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from torch.utils.data import DataLoader, Subset

from ...files import read_json
from ...progress import progress_bar
from ..arguments import MMTabTrainingArguments, parse_size
from ..callbacks import show
from ..random_state import keep_random_state
from .store import (
    KEYS_NAME,
    META_NAME,
    PIECES_NAME,
    FeatureStore,
    JoinedStore,
    StoreWriter,
    finish_store,
    folder_size,
    make_room,
)
from .views import FeatureView

# Fields of a config that do not change what a frozen part computes.
WITHOUT_EFFECT = {"_name_or_path", "transformers_version", "architectures", "id2label", "label2id"}
WITHOUT_EFFECT |= {"thresholds", "pos_weight", "dtype", "auto_map"}  # the last two are written when a model is saved
# Maps of more pictures leave a CPU's cache: a ResNet takes 31 to 35 ms a picture in batches of 4 to 8, 52 in one of 64.
PICTURES_IN_CACHE = 8
READ_TWICE = 8  # rows, to see whether they are the same each time


class FeatureCache:
    """Computes and keeps the features of the frozen parts of one model.

    Args:
        model: the unwrapped model, with `cacheable_features`.
        args: of the trainer: folder, budget and dtype of the stores, rows per forward pass, loader processes.
        accelerator: of the trainer; its processes share the work.
    """

    def __init__(self, model: nn.Module, args: MMTabTrainingArguments, accelerator: Accelerator):
        self.model: Any = model
        self.accelerator = accelerator
        own = Path(args.output_dir) / "_feature_cache"  # a name with an underscore is never pushed to the Hub
        self.folder, self.budget = Path(args.feature_cache_dir or own), parse_size(args.feature_cache_budget)
        self.batch_size, self.workers = args.per_device_eval_batch_size, int(args.dataloader_num_workers)
        self.dtype = getattr(torch, args.feature_cache_dtype) if args.feature_cache_dtype else None
        self.progress, self.show = not args.disable_tqdm, partial(show, args)
        self.specs: dict[str, dict[str, Any]] = dict(getattr(model, "cacheable_features", {}))
        self._views: dict[int, FeatureView] = {}
        self._refused: set[tuple[int, str]] = set()
        self._without_fingerprint: set[int] = set()
        # A reference to each dataset is kept, so that its id is not given to another.
        self._keys_of_rows: dict[tuple[int, str], tuple[Any, list[str] | None]] = {}

    def view(self, dataset: Any) -> Any:
        """Return the view of a dataset (always the same), or the dataset itself if it cannot be cached."""
        if id(dataset) not in self._views:  # asked first: making a fingerprint takes long
            if not self.specs or isinstance(dataset, FeatureView) or not hasattr(dataset, "fingerprint"):
                return dataset
            self._views[id(dataset)] = FeatureView(dataset, self.specs)
        return self._views[id(dataset)]

    @keep_random_state()
    def serve(
        self, dataset: Any, collator: Any, parts: Mapping[str, Sequence[nn.Module]], fill: bool, verify: bool = False
    ) -> None:
        """Let the view of `dataset` serve exactly these parts, computing what is missing.

        Args:
            dataset: the plain rows.
            collator: the collator of the plain rows.
            parts: part that is frozen and still → its modules, whose weights key the store.
            fill: compute what is not stored yet.
            verify: hash the weights again, which may have changed since the store was opened.
        """
        view = self.view(dataset)
        if not isinstance(view, FeatureView):
            if set(parts) & self.specs.keys() and id(dataset) not in self._without_fingerprint:
                self._without_fingerprint.add(id(dataset))
                self.show(
                    f"Feature cache off for {', '.join(parts)}: {type(dataset).__name__} has no `fingerprint`, which "
                    "says whether rows are the same as those of stored features. Give the rows as "
                    "EncodedDataset(rows, processor.encode_row), or set feature_cache=False"
                )
            return
        ready = []
        for part, modules in parts.items():
            if part in self.specs and (id(dataset), part) not in self._refused:
                if verify and part in view.stores and view.keys[part] != self._key(dataset, part, modules):
                    del view.stores[part]
                if part not in view.stores:
                    self._open_or_fill(view, collator, part, modules, fill)
                if part in view.stores:
                    ready.append(part)
        view.activate(ready)

    def _open_or_fill(
        self, view: FeatureView, collator: Any, part: str, modules: Sequence[nn.Module], fill: bool
    ) -> None:
        """Open the store of a part if it exists, else compute it."""
        reason = self._why_random(view.dataset, collator, part)
        if reason:
            self._refuse(view, part, reason)
            return
        key = self._key(view.dataset, part, modules)
        store: FeatureStore | JoinedStore | None
        if "pieces" in self.specs[part]:
            store = self._of_pieces(view, collator, part, key, fill, modules)
        elif self._row_keys(view.dataset, part) is None:
            store = self._whole(view, collator, part, key, fill)
        elif several := getattr(view.dataset, "single_pictures", None):
            store = self._of_several(view, collator, part, key, fill, *several)
        else:
            store = self._joined(view, collator, part, key, fill)
        if store is not None:
            view.stores[part], view.keys[part] = store, key
            if self.accelerator.is_main_process:
                for folder in store.folders:
                    (folder / META_NAME).touch()  # the least recently used store is removed first

    def shares_rows(self, dataset: Any, part: str) -> bool:
        """Whether what the part gives for a row is found again in another data set with the same picture."""
        return self._row_keys(dataset, part) is not None

    def _row_keys(self, dataset: Any, part: str) -> list[str] | None:
        if (id(dataset), part) not in self._keys_of_rows:
            known = dataset.row_keys(self.specs[part]["inputs"]) if hasattr(dataset, "row_keys") else None
            self._keys_of_rows[id(dataset), part] = (dataset, known)
        return self._keys_of_rows[id(dataset), part][1]

    def _whole(self, view: FeatureView, collator: Any, part: str, key: str, fill: bool) -> FeatureStore | None:
        """Return the store of exactly these rows, computed if need be."""
        final = self.folder / key
        exists = all(gather_object([(final / META_NAME).is_file()]))
        if not exists and fill:
            exists = self._fill(view, collator, part, final, range(len(view)))
        return FeatureStore(final) if exists else None

    def _of_pieces(
        self, view: FeatureView, collator: Any, part: str, key: str, fill: bool, modules: Sequence[nn.Module]
    ) -> FeatureStore | None:
        """Return the wanted columns of any store of these rows that holds all of the part's pieces."""
        wanted = {
            name: {"width": width, "weights": _hash_weights(modules, only=prefix)[:16] if prefix else ""}
            for name, (width, prefix) in self.specs[part]["pieces"].items()
        }
        found = self._from_main(self._holding(key, wanted))
        if found is None and fill:
            digest = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:24]
            beside = {PIECES_NAME: wanted}
            if self._fill(view, collator, part, self.folder / f"{key}-{digest}", range(len(view)), beside):
                found = self._from_main(self._holding(key, wanted))
        return None if found is None else FeatureStore(self.folder / found[0], found[1])

    def _holding(self, key: str, wanted: Mapping[str, Any]) -> tuple[str, list[int]] | None:
        """Return the name of a store of a key that holds these pieces, and in which columns they lie there."""
        for folder in sorted(self.folder.glob(f"{key}-*")):
            if folder.suffix == ".tmp" or not (folder / META_NAME).is_file():
                continue
            pieces = read_json(folder / PIECES_NAME, "Delete its folder: the features are computed again.")
            ends = np.cumsum([piece["width"] for piece in pieces.values()]).tolist()
            if all(pieces.get(name) == piece for name, piece in wanted.items()):
                places = dict(zip(pieces, ends, strict=True))
                return folder.name, [
                    column
                    for name, piece in wanted.items()
                    for column in range(places[name] - piece["width"], places[name])
                ]
        return None

    def _of_several(
        self, view: FeatureView, collator: Any, part: str, key: str, fill: bool, pictures: Any, ends: np.ndarray
    ) -> JoinedStore | None:
        """Return the rows put together from the features of their pictures, which are computed once each."""
        single = self._joined(FeatureView(pictures, self.specs), collator, part, key, fill)
        if (id(pictures), part) in self._refused:
            self._refused.add((id(view.dataset), part))
        return None if single is None else JoinedStore(single.stores, single.places, ends)

    def _joined(self, view: FeatureView, collator: Any, part: str, key: str, fill: bool) -> JoinedStore | None:
        """Return the rows from all stores that hold some of them; compute those that no store holds, each once."""
        wanted = self._row_keys(view.dataset, part)
        assert wanted is not None
        found = self._find(key, wanted)
        places = {name: row for row, name in enumerate(wanted)}
        missing = self._from_main([row for name, row in places.items() if name not in found])
        if missing and fill:
            names = [wanted[row] for row in missing]
            digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:24]
            holding = [self.folder / name for name, _ in found.values()]
            final, beside = self.folder / f"{key}-{digest}", {KEYS_NAME: {"rows": names}}
            if not self._fill(view, collator, part, final, missing, beside, holding):
                return None
            found = self._find(key, wanted)
        found = self._from_main(found)
        if not set(wanted) <= found.keys():
            return None
        folders = list(dict.fromkeys(name for name, _ in found.values()))
        order = np.array([(folders.index(found[name][0]), found[name][1]) for name in wanted])
        return JoinedStore([FeatureStore(self.folder / name) for name in folders], order)

    def _find(self, key: str, wanted: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return row key → name of a store, and the row in it, of those that the stores of a key hold."""
        found: dict[str, tuple[str, int]] = {}
        needed = set(wanted)
        for folder in sorted(self.folder.glob(f"{key}-*")):
            if folder.suffix != ".tmp" and (folder / META_NAME).is_file():
                remedy = "Delete its folder: the features are computed again."
                names = read_json(folder / KEYS_NAME, remedy).get("rows", [])
                found |= {name: (folder.name, row) for row, name in enumerate(names) if name in needed}
        return found

    def _refuse(self, view: FeatureView, part: str, reason: str) -> None:
        self._refused.add((id(view.dataset), part))
        self.show(f"Feature cache off for {part}: {reason}")

    def _why_random(self, dataset: Any, collator: Any, part: str) -> str:
        """Return why the part's inputs differ each time they are read, empty if they do not."""
        inputs = self.specs[part]["inputs"]
        declared = set(getattr(collator, "random_inputs", ())) & set(inputs)
        if declared and getattr(dataset, "augment", True):
            return f"augmentation makes {sorted(declared)} random"
        rows = range(min(READ_TWICE, len(dataset)))
        first, second = (collator([dataset[row] for row in rows]) for _ in range(2))
        differing = [name for name in inputs if not torch.equal(first[name], second[name])]
        return f"{differing} of the same rows differ each time they are read" if differing else ""

    def _key(self, dataset: Any, part: str, modules: Sequence[nn.Module]) -> str:
        """Hash what the features depend on: weights, config, precision, and the rows unless each has a key."""
        config = self.model.config.to_dict() if hasattr(self.model, "config") else {}
        spec = dict(self.specs[part])
        # Each store says which pieces it holds, and all pieces read the same rows.
        if pieces := spec.pop("pieces", {}):
            del spec["inputs"]
        digest = hashlib.sha256(
            _hash_weights(modules, leave_out=tuple(prefix for _, prefix in pieces.values() if prefix)).encode()
        )
        ignored = {*WITHOUT_EFFECT, "architectures", *spec.get("independent_of", ())}
        kept = set(spec.get("depends_on", config)) - ignored
        rows = (dataset.fingerprint, len(dataset)) if self._row_keys(dataset, part) is None else None
        facts = {
            "config": {key: value for key, value in config.items() if key in kept},
            "model": spec.get("computed_by", type(self.model).__name__),
            "spec": spec,
            "dtype": self.dtype,
            "dataset": rows,
            "precision": self.accelerator.mixed_precision,
        }
        digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        return f"{part}-{self._from_main(digest.hexdigest()[:24])}"

    def _fill(
        self,
        view: FeatureView,
        collator: Any,
        part: str,
        final: Path,
        rows: Sequence[int],
        beside: Mapping[str, Any] | None = None,
        holding: Sequence[Path] = (),
    ) -> bool:
        """Compute the features of some rows, each process its share; return whether the store is complete.

        Args:
            view: of the rows.
            collator: of the plain rows.
            part: that gives the features.
            final: folder of the store.
            rows: places in the data set.
            beside: file → JSON, what else the store says of itself.
            holding: stores that must not be deleted to make room.
        """
        spec, rank = self.specs[part], self.accelerator.process_index
        started = time.perf_counter()
        problem = self._from_main(self._why_too_large(view, collator, spec, rows, holding))
        temporary = self.folder / self._from_main(f"{final.name}.{uuid.uuid4().hex}.tmp")
        if not problem:
            try:
                temporary.mkdir(parents=True, exist_ok=True)
                writer = StoreWriter(temporary, rank, self.dtype)
                self._write_share(writer, view.dataset, collator, spec, rows)
            except (OSError, ValueError) as error:
                problem = f"storing failed: {error}"
        problems = [text for text in gather_object([problem]) if text]
        if not problems and self.accelerator.is_main_process:
            for file, content in (beside or {}).items():
                (temporary / file).write_text(json.dumps(content), encoding="utf-8")
            finish_store(temporary, final, len(rows))
            # Another run may have filled the same room meanwhile; what it reads stays mapped.
            make_room(self.folder, 0, self.budget, [*self._used(), *holding, final])
        self.accelerator.wait_for_everyone()
        if problems:
            shutil.rmtree(temporary, ignore_errors=True)
            self._refuse(view, part, problems[0])
            return False
        self.show(
            f"Feature cache: {spec['output']} of {len(rows)} example{'s' * (len(rows) > 1)} computed once by {part} in "
            f"{time.perf_counter() - started:.1f} s ({folder_size(final) / 2**20:.1f} MB)"
        )
        return True

    def _used(self) -> list[Path]:
        """Return the folders of the stores that this run reads."""
        stores = [store for view in self._views.values() for store in view.stores.values()]
        return [folder for store in stores for folder in store.folders]

    def _why_too_large(
        self, view: FeatureView, collator: Any, spec: dict[str, Any], rows: Sequence[int], holding: Sequence[Path]
    ) -> str:
        """Make room for the store; return why that is impossible, empty if it is done."""
        places = np.linspace(0, len(rows) - 1, min(8, len(rows))).astype(int)
        probe = collator([view.dataset[rows[place]] for place in places])
        features = self._features(probe, spec)
        width = (self.dtype or features[0].dtype).itemsize
        needed = sum(piece.numel() * width for piece in features) * len(rows) // len(features)
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = [*self._used(), *holding]
        if not self.accelerator.is_main_process or make_room(self.folder, needed, self.budget, kept):
            return ""
        return (
            f"{len(rows)} rows need {needed / 2**20:.0f} MB, which feature_cache_budget "
            f"({self.budget / 2**20:.0f} MB) or the free disk space in {self.folder} does not allow"
        )

    def _write_share(
        self, writer: StoreWriter, dataset: Any, collator: Any, spec: dict[str, Any], rows: Sequence[int]
    ) -> None:
        """Compute and write the rows of this process."""
        mine = range(self.accelerator.process_index, len(rows), self.accelerator.num_processes)
        in_cache = self.accelerator.device.type == "cpu" and "mask" not in spec
        loader = DataLoader(
            Subset(dataset, [rows[place] for place in mine]),
            batch_size=min(self.batch_size, PICTURES_IN_CACHE) if in_cache else self.batch_size,
            num_workers=self.workers,
            collate_fn=collator,
        )
        place = iter(mine)
        silent = not (self.progress and self.accelerator.is_main_process)
        title = f"Computing {spec['output']} once"
        with progress_bar(total=len(mine), desc=title, unit=" examples", disable=silent, leave=False) as progress:
            for batch in loader:
                for features in self._features(batch, spec):
                    writer.add(next(place), features)
                    progress.update()
        writer.close()

    @torch.no_grad()
    def _features(self, batch: dict[str, torch.Tensor], spec: dict[str, Any]) -> list[torch.Tensor]:
        """Return the features of each row of a batch, without the padding that a mask shows."""
        inputs = {name: batch[name].to(self.accelerator.device) for name in spec["inputs"]}
        was_training = self.model.training
        self.model.eval()
        with self.accelerator.autocast():
            output = getattr(self.model, spec["method"])(**inputs)  # (batch, length, ...)
        self.model.train(was_training)
        if "mask" not in spec:
            return list(output)
        mask = batch[spec["mask"]]  # (batch, positions)
        steps = output.shape[1] // mask.shape[1]
        return [row[: int(real) * steps] for row, real in zip(output, mask.sum(dim=1), strict=True)]

    def _from_main(self, value: Any) -> Any:
        """Return the main process's value on all processes."""
        return broadcast_object_list([value])[0]


def _hash_weights(modules: Sequence[nn.Module], only: str = "", leave_out: tuple[str, ...] = ()) -> str:
    """Hash the tensors of modules whose names begin with `only`, without those that begin with one of `leave_out`."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            if name.startswith(only) and not name.startswith(leave_out):
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()
