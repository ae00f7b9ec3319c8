"""The baselines that MMBT is compared with: text features, image features, or both concatenated."""

import os
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from .checked_inputs import check_shapes
from .classification_loss import classification_loss
from .configuration_baselines import MMBTBaselineConfig
from .configuration_mmbt import refuse_unknown_fields
from .glove_mmbt import load_word_vectors
from .image_regions import build_image_model, measure_image_hidden_size
from .modality_dropout import drop_modalities, drop_words
from .picture_and_text_parts import FromVisionAndText, PictureAndTextParts
from .pretrained_parts import load_image_model, load_text_model
from .text_parts import FirstTokenPooler, has_pooler, has_segments, text_options, without_pooler


class BatchNormOfAnyBatch(nn.BatchNorm1d):
    """Batch normalisation that takes a training batch of one, by its running statistics.

    NOTE[DIFF] A training batch of one, which the last one of an epoch may be, goes through batch normalisation by its
    running statistics; the original stops with an error.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training and features.shape[0] == 1:
            learned = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(features, *learned, training=False, eps=self.eps)
        return super().forward(features)


class MMBTBaselinePreTrainedModel(FromVisionAndText, PreTrainedModel):
    """Configuration and initialisation of the baselines."""

    config: MMBTBaselineConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MMBTBaselineForClassification) and module.word_vectors is not None:
            init.zeros_(module.word_vectors)


class MMBTBaselineForClassification(PictureAndTextParts, MMBTBaselinePreTrainedModel):
    """`bow`, `img`, `bert`, `concatbow` or `concatbert`, by which parts the configuration has.

    The text feature is the sum of frozen word vectors, or the pooled first position of a text encoder (by its
    own pooler, or a new dense layer and tanh where it has none), or the mean of its states (`text_pooling: mean`).
    The image feature is the flattened pooled regions. An absent picture or text has the feature zero.
    """

    def __init__(self, config: MMBTBaselineConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels  # type: ignore[assignment]
        if not config.baseline:
            raise ValueError(
                "Expected a text or an image part in MMBTBaselineConfig, found none. "
                "Set text_config or bow_vocab_size, and/or image_config."
            )
        num_features = 0
        self.text_model: Any = None
        self.image_model: Any = None
        self.pooler: nn.Module | None = None
        self.word_vectors: Any
        vectors = None
        if config.bow_vocab_size is not None:
            # A buffer, since it is never trained: `requires_grad` of a parameter would not survive loading.
            vectors = torch.zeros(config.bow_vocab_size, config.bow_embedding_size)
            num_features += config.bow_embedding_size
        self.register_buffer("word_vectors", vectors)
        if config.text_config is not None:
            self.text_model = AutoModel.from_config(config.text_config)
            hidden_size = self.text_model.config.hidden_size
            self.pooler = None if has_pooler(self.text_model) else FirstTokenPooler(hidden_size)
            num_features += hidden_size
            if config.text_pooling == "mean":
                self.pool_by_mean()
            self._has_segments = has_segments(self.text_model, self.text_model.config, num_segments=2)
        if config.image_config is not None:
            self.image_model = build_image_model(config.image_config)
            if config.image_hidden_size is None:
                config.image_hidden_size = measure_image_hidden_size(self.image_model.config)
            num_features += config.num_image_embeds * config.image_hidden_size

        layers: list[nn.Module] = []
        for size in config.hidden_sizes or []:
            norm = [BatchNormOfAnyBatch(size)] if config.batch_norm else []
            layers += [nn.Linear(num_features, size), *norm, nn.ReLU(), nn.Dropout(config.hidden_dropout)]
            num_features = size
        self.classifier = nn.Sequential(*layers, nn.Linear(num_features, self.num_labels))
        self.post_init()

    @classmethod
    def from_text_image_pretrained(  # type: ignore[no-untyped-def]
        cls,
        text: str | None = None,
        image: str | None = None,
        word_vectors: str | os.PathLike | torch.Tensor | None = None,
        **config_kwargs: Any,
    ):
        """Start from pretrained parts; those that are given decide which baseline it is.

        Args:
            text: Hub name or folder of the text encoder (`bert`, `concatbert`).
            image: Hub name or folder of the image model, or `torchvision:…` (`img`, `concat…`).
            word_vectors: GloVe text file, or its table `(5 + words, dim)` (`bow`, `concatbow`).
            **config_kwargs: fields of [`MMBTBaselineConfig`], such as `num_labels`, `hidden_sizes`.

        Returns:
            The model, float32, in evaluation mode.

        Raises:
            TypeError: for a keyword that is no field of the configuration.
            ValueError: if a checkpoint lacks weights, or no part is given.
        """
        refuse_unknown_fields(MMBTBaselineConfig, config_kwargs)
        text_model = None if text is None else load_text_model(text)
        image_model = None if image is None else load_image_model(image)
        if word_vectors is not None:
            if not isinstance(word_vectors, torch.Tensor):
                word_vectors = load_word_vectors(word_vectors)
            table = word_vectors  # (words, dim)
            config_kwargs |= {"bow_vocab_size": table.shape[0], "bow_embedding_size": table.shape[1]}
        configs = [None if model is None else model.config for model in (text_model, image_model)]
        config = MMBTBaselineConfig.from_text_image_configs(*configs, **config_kwargs)
        model = cls(config)
        if text_model is not None:
            if config.text_pooling == "mean":
                without_pooler(text_model)
            model.text_model.load_state_dict(text_model.state_dict())
        if image_model is not None:
            model.image_model.load_state_dict({**model.image_model.state_dict(), **image_model.state_dict()})
        if word_vectors is not None:
            model.word_vectors.copy_(table)
        return model.eval()

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the feature of each text, `(batch, hidden)`: zero where `attention_mask` is all 0."""
        return self.encode_texts(input_ids, attention_mask, token_type_ids).pooler_output  # type: ignore[return-value]

    def encode_texts(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **options: Any,
    ) -> BaseModelOutputWithPooling:
        """Return the feature of each text as `pooler_output`, and what else `options` ask the text encoder for."""
        if self.text_model is None:
            vectors = inputs_embeds  # (batch, seq, dim)
            if input_ids is not None:
                vectors = F.embedding(input_ids, self.word_vectors)
            assert vectors is not None
            summed = (vectors * attention_mask[..., None].to(vectors.dtype)).sum(dim=1)
            return BaseModelOutputWithPooling(pooler_output=summed)
        present = attention_mask.bool().any(dim=1)  # (batch,)
        if self._has_segments and token_type_ids is not None:
            options["token_type_ids"] = token_type_ids
        # An empty text looks at its first token, so that no row of the attention is empty.
        first = torch.zeros_like(attention_mask)
        first[:, 0] = 1
        mask = torch.where(present[:, None], attention_mask, first)
        outputs = self.text_model(
            input_ids=input_ids, inputs_embeds=inputs_embeds, attention_mask=mask, return_dict=True, **options
        )
        pooled = self._pool(outputs, mask)
        return BaseModelOutputWithPooling(
            pooler_output=torch.where(present[:, None], pooled, pooled.new_zeros(())),
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        image_regions: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify pictures with their texts. Inputs of a part that the baseline has not are not looked at.

        Args:
            input_ids: with a leading [CLS] for a text encoder, shape `(batch, seq)`.
            attention_mask: 1 for words, 0 for padding, shape `(batch, seq)`; all 0 = no text. Default: all 1.
            token_type_ids: 0, and 1 for a second sentence, shape `(batch, seq)`.
            pixel_values: normalised pictures, shape `(batch, 3, height, width)`; of a model with `max_images` from 2
                on `(batch, pictures, 3, height, width)`, whose regions are averaged over a row's pictures.
            image_mask: 1 = a picture, 0 = none, shape `(batch,)` or `(batch, pictures)`. Default: all 1.
            image_regions: what `get_image_features` returned, in place of `pixel_values`.
            inputs_embeds: word embeddings or vectors in place of `input_ids`, shape `(batch, seq, embedding)`.
            labels: `(batch,)` integers, or `(batch, num_labels)` of 0 and 1 for several labels.
            kwargs: of the text encoder, such as `output_hidden_states`.

        Returns:
            `logits` `(batch, num_labels)`, and `loss` if labels are given; hidden states and attentions of a text
            encoder.

        Raises:
            ValueError: if a part has no input, or the labels' shape does not fit `config.problem_type`.
        """
        reads_text = self.text_model is not None or self.word_vectors is not None
        words = input_ids if inputs_embeds is None else inputs_embeds
        self._require_inputs(reads_text, words, pixel_values, image_regions)
        of_words = {"attention_mask": attention_mask, "token_type_ids": token_type_ids} if reads_text else {}
        pictures = {"pixel_values": pixel_values, "image_regions": image_regions, "image_mask": image_mask}
        read = of_words | (pictures if self.config.image_config is not None else {})
        check_shapes(input_ids if reads_text else None, inputs_embeds if reads_text else None, **read)
        text_mask: Any = attention_mask
        if words is not None and reads_text and attention_mask is None:
            text_mask = torch.ones(words.shape[:2], dtype=torch.long, device=words.device)
        regions: Any = image_regions
        reads_picture = self.config.image_config is not None  # an ensemble may hold the image model
        if reads_picture:
            regions, image_mask = self.read_pictures(pixel_values, image_regions, image_mask)
            regions = regions.to(self.dtype).unflatten(1, (image_mask.shape[1], -1))
            if self.training and reads_text:
                image_mask, text_mask = drop_modalities(
                    image_mask, text_mask, self.config.modal_dropout, self.config.modal_dropout_text
                )
        if self.training and reads_text:
            text_mask = drop_words(text_mask, self.config.word_dropout, self.text_model is not None)

        features: list[Any] = []
        text = BaseModelOutputWithPooling()
        if words is not None and reads_text:
            options = text_options(self.config, kwargs)
            text = self.encode_texts(input_ids, text_mask, token_type_ids, inputs_embeds, **options)
            features.append(text.pooler_output)
        if image_mask is not None and reads_picture:
            present = image_mask.bool()[:, :, None, None]  # (batch, pictures, 1, 1)
            summed = torch.where(present, regions, regions.new_zeros(())).sum(dim=1)
            features.append((summed / present.sum(dim=1).clamp(min=1)).flatten(1))
        logits = self.classifier(torch.cat(features, dim=1))  # (batch, num_labels)
        loss = None if labels is None else classification_loss(self.config, logits, labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=text.hidden_states, attentions=text.attentions
        )

    def _require_inputs(
        self,
        reads_text: bool,
        words: torch.Tensor | None,
        pixel_values: torch.Tensor | None,
        image_regions: torch.Tensor | None,
    ) -> None:
        if reads_text and words is None:
            raise ValueError(f"Expected input_ids for the baseline {self.config.baseline!r}, found none.")
        if self.config.image_config is not None and pixel_values is None and image_regions is None:
            raise ValueError(
                f"Expected pixel_values or image_regions for the baseline {self.config.baseline!r}, found "
                "none. For a batch without pictures pass blank ones and image_mask of zeros."
            )
