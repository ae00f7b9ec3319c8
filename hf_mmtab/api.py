"""What `import hf_mmtab` offers; importing this registers both families with transformers."""

from .commands.standalone import make_standalone
from .data.card_transactions import CardTransactions
from .data.encoded import EncodedDataset
from .data.image_text import ImageText
from .data.original_tasks import MMIMDB, VSNLI, Food101
from .data.prsa import PRSA
from .data.table import Table
from .model_card import write_trainer_card as _write_trainer_card
from .models.mmbt import (
    MMBTBaselineConfig,
    MMBTBaselineForClassification,
    MMBTCollator,
    MMBTConfig,
    MMBTEnsembleConfig,
    MMBTEnsembleForClassification,
    MMBTForClassification,
    MMBTImageProcessor,
    MMBTModel,
    MMBTProcessor,
)
from .models.mmbt import register as _register_mmbt
from .models.tabbert import (
    TabBertBoostedForSequenceClassification,
    TabBertCollator,
    TabBertConfig,
    TabBertForMaskedLM,
    TabBertFusionForSequenceClassification,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertModel,
    TabBertPooledForSequenceClassification,
    TabBertProcessor,
    TabBertRawLstmForSequenceClassification,
    TabGPT2Config,
    TabGPT2LMHeadModel,
)
from .models.tabbert import register as _register_tabbert
from .pipelines import register as _register_pipelines
from .tasks.sharded_table import PreparedShards, prepare_table
from .training import FreezeSchedule, MMTabTrainer, MMTabTrainingArguments

_register_mmbt()
_register_tabbert()
_register_pipelines()
MMTabTrainer.write_card = _write_trainer_card  # training imports nothing of the cards
