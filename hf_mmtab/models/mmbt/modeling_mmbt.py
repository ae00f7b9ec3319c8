"""MMBT: image regions and words in one sequence, read by one text model (arXiv:1909.02950)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from .beside_columns import ColumnTokens, NumberToken, require_columns
from .checked_inputs import check_lengths, check_segments, check_shapes
from .classification_loss import classification_loss
from .configuration_mmbt import MMBTConfig, refuse_unknown_fields
from .image_regions import build_image_model, measure_image_hidden_size
from .modality_dropout import drop_modalities, drop_words
from .picture_and_text_parts import FromVisionAndText, PictureAndTextParts
from .pretrained_parts import (
    SegmentStart,
    checkpoint_name,
    load_image_model,
    load_text_model,
    mean_of_first_two,
    special_token_ids,
    start_segment_table,
)
from .text_parts import (
    FirstTokenPooler,
    has_pooler,
    has_segments,
    max_positions,
    position_offset,
    refuse_plain_texts,
    require_special_words,
    require_text_encoder,
    takes,
    text_options,
    without_pooler,
)


class MMBTPreTrainedModel(FromVisionAndText, PreTrainedModel):
    """What the MMBT models share: configuration, checked loading, start from two pretrained checkpoints."""

    config: MMBTConfig
    base_model_prefix = "model"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MMBTModel) and module.null_image is not None:
            init.normal_(module.null_image, mean=0.0, std=self.config.initializer_range)
        if isinstance(module, NumberToken):
            module.init_weights()

    @classmethod
    def from_text_image_pretrained(  # type: ignore[no-untyped-def]
        cls, text: str, image: str, segment_start: SegmentStart = "pretrained", **config_kwargs: Any
    ):
        """Start from a pretrained text model and a pretrained image model.

        The projection of the regions (and pooler, segment table and head, where the checkpoints have none)
        are new. With `num_segments=3` the text model's own table of two segments gets a third row, the mean
        of the first two; a text model with a single segment or none (RoBERTa, DistilBERT) keeps what it has,
        and a table of MMBT's own is added to the inputs.

        Args:
            text: Hub name or folder of the text model.
            image: Hub name or folder of the image model (of a CLIP or SigLIP, its vision half), or
                `torchvision:resnet152`, `torchvision:resnet50:IMAGENET1K_V2`, `torchvision:FILE.pth`.
            segment_start: what the text model's own segment table starts from: `pretrained`, its rows, as the
                original; `first`, every row from that of a single text. A table of MMBT's own starts anew.
            **config_kwargs: fields of [`MMBTConfig`], such as `num_labels`, `id2label`, `num_image_embeds`.

        Returns:
            The model, float32, in evaluation mode.

        Raises:
            TypeError: for a keyword that is no field of the configuration.
            ValueError: if a checkpoint lacks weights, or the ids of [CLS] and [SEP] cannot be found.

        Example:
            >>> model = MMBTForClassification.from_text_image_pretrained(
            ...     "google-bert/bert-base-uncased", "torchvision:resnet152", num_labels=3, num_segments=3
            ... )
        """
        refuse_unknown_fields(MMBTConfig, config_kwargs)
        image, text = checkpoint_name(image, "the image model"), checkpoint_name(text, "the text model")
        text_model, image_model = load_text_model(text), load_image_model(image)
        segments = start_segment_table(
            text_model, config_kwargs.get("num_segments", MMBTConfig.num_segments), segment_start
        )
        config_kwargs = {**special_token_ids(text, text_model.config), **config_kwargs}
        config = MMBTConfig.from_text_image_configs(text_model.config, image_model.config, **config_kwargs)
        if config.text_pooling == "mean":
            without_pooler(text_model)
        model = cls(config)
        base: Any = model.base_model
        base.text_model.load_state_dict({**base.text_model.state_dict(), **text_model.state_dict(), **segments})
        base.image_model.load_state_dict({**base.image_model.state_dict(), **image_model.state_dict()})
        if base.segment_embeddings is not None and config.num_segments == 3:
            mean_of_first_two(base.segment_embeddings.weight)
        return model.eval()


class MMBTModel(PictureAndTextParts, MMBTPreTrainedModel):
    """The encoder: `[CLS] regions [SEP]` and the words, in one pass through a text model.

    Positions restart for the words, at `text_position_start`. What a text model cannot be told is replaced as follows:

    * no segment table, or one with fewer rows than `num_segments` (RoBERTa, DistilBERT, ModernBERT, MPNet,
      DeBERTa): `segment_embeddings`, a learned table with mean zero, is added to the inputs;
    * no table of absolute positions (ModernBERT): rotary angles restart at 0, while its sliding windows run
      over the sequence as it stands; relative positions (DeBERTa, MPNet) run over the whole sequence;
    * no pooler (DistilBERT, ELECTRA, ModernBERT, DeBERTa): a new dense layer and tanh on the first position.

    The text model must read in both directions, since the pooler sits on the first position.

    NOTE[DIFF] With `text_pooling: mean` the classifier reads the mean of the last states of words, regions and special
    words, as sentence-transformers are trained. The original reads the pooled first position (`cls`, the default).
    """

    _head_prefixes = ("classifier.",)

    def __init__(self, config: MMBTConfig) -> None:
        super().__init__(config)
        self.text_model: Any = AutoModel.from_config(config.text_config)
        require_text_encoder(self.text_model)
        require_special_words(config, self.text_model)
        self.image_model: Any = build_image_model(config.image_config)
        if config.image_hidden_size is None:
            config.image_hidden_size = measure_image_hidden_size(self.image_model.config)

        text_config = self.text_model.config
        embedding_size = self.text_model.get_input_embeddings().embedding_dim
        self.image_projection = nn.Linear(config.image_hidden_size, embedding_size)
        own_segments = not has_segments(self.text_model, text_config, config.num_segments)
        self.segment_embeddings = nn.Embedding(config.num_segments, embedding_size) if own_segments else None
        self._segment_rows: int = config.num_segments if own_segments else text_config.type_vocab_size
        numbers = len(config.number_columns or ())
        categories = [size for _, size in sorted((config.category_columns or {}).items())]
        self.column_tokens = ColumnTokens(numbers, categories, embedding_size) if numbers or categories else None
        learned = config.null_image == "learned"
        self.null_image = nn.Parameter(torch.zeros(embedding_size)) if learned else None
        self.pooler = None if has_pooler(self.text_model) else FirstTokenPooler(text_config.hidden_size)
        if config.text_pooling == "mean":
            self.pool_by_mean()

        self._takes_positions = takes(self.text_model, "position_ids")
        self._position_offset = position_offset(self.text_model)
        self.max_part_length = max_positions(self.text_model)
        self.post_init()

    @can_return_tuple
    def forward(  # type: ignore[misc]  # position_ids stands in TransformersKwargs too
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        image_regions: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        column_numbers: torch.Tensor | None = None,
        column_categories: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode pictures and texts together.

        Args:
            input_ids: words without a leading [CLS], shape `(batch, seq)`.
            attention_mask: 1 for words, 0 for padding, shape `(batch, seq)`; all 0 = no text. Default: 1.
            token_type_ids: segment of each word, 1 or (second sentence) 2, shape `(batch, seq)`. Default: 1.
            position_ids: position of each word, counted from `text_position_start`, shape `(batch, seq)`.
                Default: 0 … seq − 1.
            pixel_values: normalised pictures, shape `(batch, 3, height, width)`; of a model with `max_images` from 2
                on `(batch, pictures, 3, height, width)`.
            image_mask: 1 = a picture, 0 = none, shape `(batch,)` or `(batch, pictures)`. Default: 1; 0 if no picture
                is given. Of one picture a row the image model runs on the blank pixels too, and in training its
                batch norm counts them.
            image_regions: what `get_image_features` returned, in place of `pixel_values`.
            inputs_embeds: word embeddings in place of `input_ids`, shape `(batch, seq, embedding)`.
            column_numbers: of a model with `number_columns`, shape `(batch, columns, 2)`, see `encode_columns`.
            column_categories: ids of a model with `category_columns`, shape `(batch, columns)`.
            kwargs: of the text model, such as `output_hidden_states`, or `output_attentions`, which needs
                `attn_implementation="eager"`.

        Returns:
            `last_hidden_state` `(batch, regions + columns + 2 + seq, hidden)`, `pooler_output` `(batch, hidden)`.

        Raises:
            ValueError: if words are given twice or not at all, shapes do not fit each other, a segment has no row in
                the table, a part is longer than the position table, or texts without a picture begin with [CLS] as a
                plain tokenizer writes them.
        """
        pictures = {"pixel_values": pixel_values, "image_regions": image_regions, "image_mask": image_mask}
        beside = {"column_numbers": column_numbers, "column_categories": column_categories}
        of_words = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "position_ids": position_ids}
        check_shapes(input_ids, inputs_embeds, **of_words, **pictures, **beside)
        check_segments(token_type_ids, self._segment_rows)
        if pixel_values is None and image_regions is None:
            refuse_plain_texts(input_ids, self.config.cls_token_id)
        words = self._embed_words(input_ids, inputs_embeds)  # (batch, seq, embedding)
        text_mask = _default(attention_mask, torch.ones(words.shape[:2], device=words.device).long())
        regions, image_mask = self._read_regions(pixel_values, image_regions, image_mask, words)  # (batch, pictures)
        if self.training:
            image_mask, text_mask = drop_modalities(
                image_mask, text_mask, self.config.modal_dropout, self.config.modal_dropout_text
            )
            text_mask = drop_words(text_mask, self.config.word_dropout)
        image = self.image_projection(regions)  # (batch, regions, embedding)
        image, region_mask = self._stand_in_for_absent(image, image_mask)
        if self.column_tokens is None:
            require_columns(None, column_numbers, column_categories)
        else:
            columns = self.column_tokens(column_numbers, column_categories)  # (batch, columns, embedding)
            image = torch.cat([image, columns.to(image.dtype)], dim=1)
            region_mask = torch.cat([region_mask, region_mask.new_ones(columns.shape[:2])], dim=1)
        opening, closing = self._embed_special_words(words)  # (batch, 1, embedding) each
        sequence = torch.cat([opening, image, closing, words], dim=1)  # (batch, regions + 2 + seq, embedding)

        always = text_mask.new_ones((words.shape[0], 1))
        mask = torch.cat([always, region_mask.to(text_mask.dtype), always, text_mask], dim=1)
        image_length, text_length = image.shape[1] + 2, words.shape[1]
        check_lengths(self.max_part_length, image_length, text_length, self.config.text_position_start)
        image_positions = _count_up_to(image_length, words)
        text_positions = _default(position_ids, _count_up_to(text_length, words))
        text_positions = text_positions + self.config.text_position_start
        positions = torch.cat([image_positions, text_positions], dim=1)  # restarts at the words
        text_segments = _default(token_type_ids, torch.ones_like(text_positions))
        segments = torch.cat([torch.zeros_like(image_positions), text_segments], dim=1)

        outputs = self._encode(sequence, mask, positions, segments, **text_options(self.config, kwargs))
        states = outputs.last_hidden_state  # (batch, regions + 2 + seq, hidden)
        return BaseModelOutputWithPooling(
            last_hidden_state=states,
            pooler_output=self._pool(outputs, mask),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _embed_words(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        if input_ids is not None and inputs_embeds is None:
            return self.get_input_embeddings()(input_ids)
        if inputs_embeds is not None and input_ids is None:
            return inputs_embeds
        raise ValueError("Expected exactly one of input_ids and inputs_embeds.")

    def _embed_special_words(self, words: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ids = torch.tensor([[self.config.cls_token_id, self.config.sep_token_id]], device=words.device)
        return self.get_input_embeddings()(ids).expand(words.shape[0], -1, -1).split(1, dim=1)

    def _read_regions(
        self,
        pixel_values: torch.Tensor | None,
        image_regions: torch.Tensor | None,
        image_mask: torch.Tensor | None,
        words: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return regions and `image_mask` of as many pictures for each row as the model reads at most.

        NOTE[DIFF] A row may have several pictures, where the original has one. They are told apart by their positions,
        which count on from picture to picture in the segment of pictures, as those of one picture's regions do: no
        weights are added, and a model of one picture a row can go on with several. Rows with fewer are filled up to
        `max_images` and masked, so that nothing depends on the other rows of a batch.
        """
        batch, most = words.shape[0], self.config.max_images
        if image_regions is not None or pixel_values is not None:
            regions, image_mask = self.read_pictures(pixel_values, image_regions, image_mask)
            if lacking := most - image_mask.shape[1]:
                each = regions.shape[1] // image_mask.shape[1]
                regions, image_mask = F.pad(regions, (0, 0, 0, lacking * each)), F.pad(image_mask, (0, lacking))
            return regions, image_mask
        if self.config.image_pooling == "none":
            raise ValueError(
                'Expected pixel_values or image_regions: with image_pooling "none" the number of tokens '
                "depends on the picture. For a batch without pictures pass blank ones and image_mask 0."
            )
        size = most * self.config.num_image_embeds, self.image_projection.in_features
        return words.new_zeros((batch, *size)), words.new_zeros((batch, most))

    def _stand_in_for_absent(self, image: torch.Tensor, image_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hide the tokens of absent pictures from attention, or put the learned vector in their place.

        NOTE[DIFF] An absent picture is masked. The original reads a grey picture for it; the processor's `legacy`
        preset does so too, and says in `image_mask` that a picture is there.
        """
        each = image.shape[1] // image_mask.shape[1]
        present = image_mask.bool()[:, :, None].expand(-1, -1, each).flatten(1)  # (batch, pictures * regions)
        if self.null_image is None:
            return torch.where(present[..., None], image, image.new_zeros(())), present
        return torch.where(present[..., None], image, self.null_image), torch.ones_like(present)

    def _encode(
        self,
        sequence: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        segments: torch.Tensor,
        **options: Any,
    ) -> Any:
        if self._takes_positions:
            options["position_ids"] = positions + self._position_offset
        if self.segment_embeddings is None:
            options["token_type_ids"] = segments
        else:
            sequence = sequence + self.segment_embeddings(segments)
        return self.text_model(inputs_embeds=sequence, attention_mask=mask, return_dict=True, **options)


class MMBTForClassification(MMBTPreTrainedModel):
    """MMBT with a linear classifier on the pooled first position, for one label or several per example."""

    def __init__(self, config: MMBTConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels  # type: ignore[assignment]
        self.model = MMBTModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(self.model.text_model.config.hidden_size, self.num_labels)
        self.post_init()

    @property
    def freezable_modules(self) -> dict[str, str]:
        """Part name → module path, as of [`MMBTModel`]; the classifier always trains too."""
        return {part: f"model.{path}" for part, path in self.model.freezable_modules.items()}

    @property
    def cacheable_features(self) -> dict[str, dict[str, Any]]:
        """What may be computed once per example while a part is frozen, as of [`MMBTModel`]."""
        return self.model.cacheable_features

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the pooled regions, `(batch, num_image_embeds, image_hidden)`."""
        return self.model.get_image_features(pixel_values)

    @can_return_tuple
    def forward(  # type: ignore[misc]  # position_ids stands in TransformersKwargs too
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        image_regions: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        column_numbers: torch.Tensor | None = None,
        column_categories: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify pictures with their texts.

        Args:
            labels: `(batch,)` integers, or `(batch, num_labels)` of 0 and 1 for several labels.
            (the others): see [`MMBTModel.forward`].

        Returns:
            `logits` `(batch, num_labels)`, and `loss` if labels are given.

        Raises:
            ValueError: if the labels' shape does not fit `config.problem_type`.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            pixel_values=pixel_values,
            image_mask=image_mask,
            image_regions=image_regions,
            inputs_embeds=inputs_embeds,
            column_numbers=column_numbers,
            column_categories=column_categories,
            **{**kwargs, "return_dict": True},
        )
        logits = self.classifier(self.dropout(outputs.pooler_output))  # (batch, num_labels)
        return SequenceClassifierOutput(
            loss=None if labels is None else classification_loss(self.config, logits, labels),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _default(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given


def _count_up_to(length: int, like: torch.Tensor) -> torch.Tensor:
    """Positions 0 … length − 1 for each example, `(batch, length)`."""
    return torch.arange(length, device=like.device).expand(like.shape[0], -1)
