"""A saved model as ONNX, with all that answering takes; compared with torch before it is kept."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoProcessor

from ..locking import draft_folder
from ..models.mmbt import MMBTBaselineConfig, MMBTCollator, MMBTConfig, MMBTProcessor
from ..models.tabbert import TabBertConfig
from ..models.tabbert.tree_files import save_trees
from ..serving import Predictor
from ..serving.inputs import TOKENIZER_NAME
from ..serving.named_scores import probabilities
from ..serving.predictor import FILLINGS, MODEL_NAME
from ..serving.trees import ALONE, BEFORE, BEHIND
from ..statistics.features import OF_ONE_HISTORY, of_other_histories
from .arrays import TREE_SCORES, ArrayModel, arrays_of, reads, trees_of
from .folder import refuse_other_files, write_settings
from .onnx_lstm import lstm_as_operator
from .settings import is_pretrained, serving_settings

TOLERANCE = 1e-4  # largest difference to torch; of outputs above 1 that share of them
EXPORTED_SHAPE = (3, 5)  # examples, and rows of a window or words of a text
CHECKED_SHAPES = ((1, 1), (2, 9), (6, 4))
SAMPLE_SHAPE = (64, 8)  # of the inputs on which int8 is compared with float32
# Bytes of weights; larger ones are written beside the graph, since a protobuf ends at 2 GB.
LARGEST_FILE = 1_500_000_000
TEXTS, PICTURES = ("input_ids", "attention_mask", "token_type_ids"), ("pixel_values", "image_mask")
# Convolutions stay in float: in 8 bits they are slower and moved scores of the quickstart's MMBT by .3 in place of .08.
QUANTISED = ("MatMul", "Gemm", "LSTM", "Gather")


def export_checkpoint(checkpoint: str, out: str | Path, int8: bool = False) -> list[str]:
    """Write the ONNX model of a checkpoint with its processor and `serving.json` to a folder.

    Args:
        checkpoint: folder or Hub name of MMBT, one of its baselines, or a TabBERT (pretrained, or a head, also one
            with boosted trees, which stay in LightGBM's format beside the network).
        out: new or empty folder, or one of an earlier export and nothing else, which is replaced.
        int8: whether weights of the network are quantised to 8 bits, and activations as they come.

    Returns:
        What was compared, a sentence each.

    Raises:
        ValueError: if the model is of another kind, torch cannot export it, or ONNX gives other numbers; nothing is
            written then.
    """
    out = Path(out).resolve()
    refuse_other_files(out)
    model = load_model(checkpoint)
    processor = AutoProcessor.from_pretrained(checkpoint)
    if orderings := (getattr(processor, "statistics", None) or {}).get("orderings"):
        raise ValueError(
            f"Expected a model that reads one history in {checkpoint!r}, found one that reads how unexpected rows are "
            f"in other orderings ({', '.join(orderings)}), which rows of other histories tell. It scores new rows with "
            "`hf-mmtab predict`; for an export train without `orderings`."
        )
    config = model.config
    if isinstance(config, TabBertConfig):
        model.check_processor(processor.fingerprint)
    trees = trees_of(model)
    settings = serving_settings(config, processor, trees)
    alone = trees is not None and trees["place"] == ALONE
    if int8 and alone:
        raise ValueError(f"Expected a network to quantise in {checkpoint!r}, found trees alone. Leave --int8 out.")
    of_others = of_one_history(processor) if "statistics" in settings.get("reads", []) else []
    with draft_folder(out) as draft:
        folder = draft / "export"
        folder.mkdir()
        processor.save_pretrained(folder)
        if isinstance(processor, MMBTProcessor) and processor.tokenizer is not None:
            processor.tokenizer.backend_tokenizer.save(str(folder / TOKENIZER_NAME))
        found = [] if alone else write_model(model, processor, folder / MODEL_NAME, int8)
        if trees is not None:
            save_trees(model.boosters[trees["name"]], trees["name"], folder)
            found.append(f"{counted_trees(trees)} in LightGBM's own format: services need `lightgbm`")
        found += of_others
        write_settings(folder, settings)
        if isinstance(processor, MMBTProcessor) and not int8:
            found.append(compare_examples(model, processor, folder))
        refuse_other_files(out)  # again: exporting takes minutes
        if out.exists():
            os.replace(out, draft / "before")
        os.replace(folder, out)
    return found


def counted_trees(trees: dict[str, Any]) -> str:
    """Say what trees a service asks."""
    asked = {ALONE: "nothing but", BEFORE: "the network and", BEHIND: "the network, then"}[trees["place"]]
    return f"scores come from {asked} boosted trees"


def of_one_history(processor: Any) -> list[str]:
    """Say which statistics a service computes otherwise than `predict`: those that count rows of other histories.

    Raises:
        ValueError: if the processor has no statistics.
    """
    if processor.statistics is None:
        raise ValueError(
            "Expected the statistics that the model was trained with in its processor, found none. Export the model's "
            "own folder, with tabbert_statistics.json."
        )
    others = of_other_histories(processor.statistics, processor.plan.entity)
    if not others:
        return []
    remedy = f"train with `--statistics '[{', '.join(OF_ONE_HISTORY)}]'`"
    if len(processor.plan.entity) > 1:
        remedy += " and one entity column"
    return [
        f"statistics ({', '.join(others)}) count rows of other histories; a service counts those of the history that "
        "it is given, so that its scores differ from `hf-mmtab predict` on the whole table. To have the same ones, "
        f"{remedy}"
    ]


def load_model(checkpoint: str) -> Any:
    """Load a model of this package in float32 for evaluation.

    Raises:
        ValueError: if its kind cannot be exported.
    """
    config = AutoConfig.from_pretrained(checkpoint)
    classes = config.architectures or [type(config).__name__]
    masked = is_pretrained(config)
    known = isinstance(config, TabBertConfig | MMBTConfig | MMBTBaselineConfig)
    if not known or not (masked or classes[0].endswith("Classification")):
        raise ValueError(
            "Expected MMBT, one of its baselines, a TabBERT for masked cells or one of its heads over windows in "
            f"{checkpoint!r}, found {', '.join(classes)}, which has no ONNX export."
        )
    if getattr(config, "max_images", 1) > 1:
        raise ValueError(
            f"Expected a model of one picture a row in {checkpoint!r}, found one that reads up to {config.max_images}, "
            "which has no ONNX export. Train it on one picture a row (image_column names it)."
        )
    if getattr(config, "number_columns", None) or getattr(config, "category_columns", None):
        raise ValueError(
            f"Expected MMBT of picture and text alone in {checkpoint!r}, found one that reads further columns, which "
            "has no ONNX export. Train it without number_columns and category_columns."
        )
    auto: Any = AutoModelForMaskedLM if masked else AutoModelForSequenceClassification
    return auto.from_pretrained(checkpoint, dtype=torch.float32).eval()


def write_model(model: Any, processor: Any, path: Path, int8: bool) -> list[str]:
    """Export, compare at other shapes, quantise if asked; returns what was found."""
    example = sample_inputs(model, processor, *EXPORTED_SHAPE)
    names = list(example)
    arrays = arrays_of(model, names)
    dynamic = torch.export.Dim.DYNAMIC
    axes = tuple({0: dynamic} if name in PICTURES else {0: dynamic, 1: dynamic} for name in names)
    with torch.no_grad():
        outputs = len(arrays(*example.values()))
    output_names = ["logits"] if outputs == 1 else [f"logits.{name}" for name in model.config.fields]
    beside = sum(one.numel() * one.element_size() for one in model.parameters()) > LARGEST_FILE
    try:
        with quiet(), torch.no_grad(), lstm_as_operator(model) as translations:
            torch.onnx.export(
                arrays,
                tuple(example.values()),
                path,
                dynamo=True,
                dynamic_shapes=(axes,),
                input_names=names,
                output_names=output_names,
                external_data=beside,
                custom_translation_table=translations,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(
            f"Expected a model that torch.onnx.export can read, found {type(model).__name__} of "
            f"{encoders(model.config)}: {cause}. Serve it with torch, or train on another encoder."
        ) from error
    leave_out_sources(path)
    compared = []
    worst = 0.0
    for batch, length in CHECKED_SHAPES:
        inputs = sample_inputs(model, processor, batch, length)
        worst = max(worst, difference(path, arrays, inputs))
        compared.append(" × ".join(map(str, inputs[names[0]].shape[:2])))
    if not worst <= TOLERANCE:
        raise ValueError(
            f"Expected outputs of ONNX within {TOLERANCE} of torch's, found a difference of {worst:.2g}. Nothing was "
            "written. Serve this model with torch."
        )
    found = [f"onnxruntime differs from torch by {worst:.1e} at most (batches of {', '.join(compared)})"]
    if int8:
        found.append(quantise(path, arrays, sample_inputs(model, processor, *SAMPLE_SHAPE), model.config))
    return found


def leave_out_sources(path: Path) -> None:
    """Take out of a model file what the exporter notes about Python: stack traces with paths of this machine."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    del model.metadata_props[:]
    for graph in [model.graph, *model.functions]:
        _leave_out_notes(graph)
    onnx.save(model, path)


def _leave_out_notes(graph: Any) -> None:
    """Empty the notes of a graph or function, of its nodes and values, and of the graphs inside."""
    named = [] if not hasattr(graph, "initializer") else [*graph.input, *graph.output, *graph.initializer]
    for one in [graph, *named, *graph.value_info, *graph.node]:
        del one.metadata_props[:]
    for node in graph.node:
        for inside in node.attribute:
            for body in [*([inside.g] if inside.HasField("g") else []), *inside.graphs]:
                _leave_out_notes(body)


def quantise(path: Path, arrays: ArrayModel, inputs: dict[str, torch.Tensor], config: Any) -> str:
    """Quantise a model file in place; returns what that costs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before, float_file = path.stat().st_size, path.with_suffix(".float.onnx")
    path.rename(float_file)
    give_own_weights(float_file)
    with quiet():
        quantize_dynamic(float_file, path, list(QUANTISED), per_channel=True, weight_type=QuantType.QInt8)
    float_file.unlink()
    trees = trees_of(arrays.model)
    is_score = config.problem_type != "regression" and not (trees and trees["place"] == BEHIND)
    is_score &= len(arrays(*inputs.values())) == 1
    several = config.problem_type == "multi_label_classification"
    worst = difference(path, arrays, inputs, (lambda one: probabilities(one, several)) if is_score else None)
    what = "score" if is_score else "output"
    return (
        f"int8: {before / 1e6:.1f} MB became {path.stat().st_size / 1e6:.1f} MB, and a {what} differs from torch's by "
        f"{worst:.4f} at most on {len(next(iter(inputs.values())))} random examples; evaluate on your own data"
    )


def give_own_weights(path: Path) -> None:
    """Name anew a weight that several products share: onnxruntime would name its transposed copies alike."""
    import onnx

    model, seen, nodes = onnx.load(path), set(), []
    for node in model.graph.node:
        if node.op_type == "Gemm":
            if node.input[1] in seen:
                own = f"{node.name}_weight"
                nodes.append(onnx.helper.make_node("Identity", [node.input[1]], [own]))
                node.input[1] = own
            seen.add(node.input[1])
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def difference(path: Path, arrays: ArrayModel, inputs: dict[str, torch.Tensor], change: Any = None) -> float:
    """Return the largest difference of the outputs of a model file and of torch; of large ones the relative one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    read = {one.name for one in session.get_inputs()}
    got = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in read})
    with torch.no_grad():
        expected = [one.numpy() for one in arrays(*inputs.values())]
    worst = 0.0
    for one, other in zip(got, expected, strict=True):
        if change is not None:
            one, other = change(one), change(other)
        worst = max(worst, float((np.abs(one - other) / np.maximum(1, np.abs(other))).max()))
    return worst


def sample_inputs(model: Any, processor: Any, batch: int, length: int) -> dict[str, torch.Tensor]:
    """Return random inputs of a model: ids of each column or of the words, noise as pictures, padding and absence.

    Args:
        model: or its network, where trees are asked too.
        processor: of the model.
        batch: examples.
        length: rows of the windows, or words, at most; fewer where the model has no positions for them.
    """
    config, generator = model.config, torch.Generator().manual_seed(batch * 1000 + length)
    mask = torch.ones(batch, length, dtype=torch.long)
    for number in range(1, batch):
        mask[number, 1 + number % length :] = 0
    if isinstance(config, TabBertConfig):
        rows = min(length, config.max_position_embeddings // (config.num_fields if config.flatten else 1))
        columns = [torch.randint(a, b, (batch, rows), generator=generator) for a, b in config.field_ranges]
        mask = mask[:, :rows]
        ids = torch.stack(columns, dim=-1)  # (batch, rows, fields)
        ids = torch.where(mask[..., None].bool(), ids, processor.pad_token_id)
        return {"input_ids": ids, "attention_mask": mask} | sample_beside(model, mask, generator)
    inputs: dict[str, torch.Tensor] = {}
    if processor.tokenizer is not None:
        ids = torch.randint(len(processor.tokenizer), (batch, length), generator=generator)
        inputs["input_ids"] = torch.where(mask.bool(), ids, processor.tokenizer.pad_token_id)
        inputs["attention_mask"] = mask
        inputs["token_type_ids"] = mask * processor.segment_offset
    if processor.image_processor is not None:
        blank = processor.encode_row({"image": None, "text": ""})["pixel_values"]  # (3, H, W)
        inputs["pixel_values"] = torch.randn(batch, *blank.shape, generator=generator)
        inputs["image_mask"] = (torch.arange(batch) % 3 < 2).long()
    return inputs


def sample_beside(model: Any, mask: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return random times, statistics with gaps, and scores of trees, as far as a network reads them.

    Args:
        model: with windows of rows as inputs.
        mask: of the windows, `(batch, rows)`.
    """
    shape, trees, found = tuple(mask.shape), trees_of(model), {}
    network = reads(model.config, None)
    if "times" in network:
        steps = torch.randint(0, 60_000_000_000, shape, generator=generator)  # up to 17 hours, in microseconds
        found["times"] = torch.where(mask.bool(), steps.cumsum(dim=1), FILLINGS["times"])
    if "statistics" in network:
        numbers = 3 * torch.randn(*shape, len(model.config.statistics), generator=generator)
        own = model.numbers.quantiles  # (numbers, points): some values lie on them, as ties do
        drawn = torch.randint(own.shape[1], (*shape, len(own)), generator=generator)
        numbers[..., model.numbers.places] += own.T.gather(0, drawn.flatten(0, 1)).view(drawn.shape)
        on_ties = torch.rand(numbers.shape, generator=generator) < 0.5
        numbers = torch.where(on_ties, numbers.round(), numbers)
        gaps = torch.rand(numbers.shape, generator=generator) < 0.1
        found["statistics"] = numbers.masked_fill(gaps | ~mask[..., None].bool(), torch.nan)
    if trees is not None and trees["place"] == BEFORE:
        outputs = 1 if trees["binary"] else model.config.num_labels
        found[TREE_SCORES] = 3 * torch.randn(*shape, outputs, generator=generator)
    return found


def compare_examples(model: Any, processor: MMBTProcessor, folder: Path) -> str:
    """Compare a few pictures and texts from the bytes to the score; returns what was found.

    Raises:
        ValueError: if a score differs by more than `TOLERANCE`.
    """
    served, collate = Predictor(folder), MMBTCollator(processor)
    text = " ".join(["A photo, of two dogs; 42 plates in the Sea?"] * 4)
    worst = 0.0
    noise = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    sizes = [(640, 427), (200, 333), (61, 57)]
    pictures = [Image.fromarray(one).resize(size, 3) for one, size in zip(noise, sizes, strict=True)]
    for number, picture in enumerate([*pictures, None]):
        row = {"image": picture, "text": text[: 40 * number]}
        with torch.no_grad():
            expected = model(**collate([processor.encode_row(row)])).logits[0].numpy()
        several = model.config.problem_type == "multi_label_classification"
        got = served.logits(served.batch([served.encoder(row)]))[0]
        pair = [probabilities(one, several) for one in (got, expected)]
        worst = max(worst, float(np.abs(pair[0] - pair[1]).max()))
    if not worst <= TOLERANCE:
        raise ValueError(
            f"Expected scores without torch within {TOLERANCE} of torch's, found a difference of {worst:.2g} on a "
            f"picture: {type(processor.image_processor).__name__} computes other pixels than Pillow. Nothing was "
            'written. Train with an image processor of the backend "pil", or serve with torch.'
        )
    return f"pictures and texts read without torch give scores that differ by {worst:.1e} at most"


def encoders(config: Any) -> str:
    """Name the encoders of a model, for messages."""
    parts = [getattr(config, name, None) for name in ("text_config", "image_config")]
    return " and ".join(part.model_type for part in parts if part is not None) or config.model_type


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what the exporter and the quantiser log and warn of."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
