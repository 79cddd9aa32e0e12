"""What a user wishes: the spec of a TrainingJob.

The CRD is generated from these models, descriptions included: `kubectl explain` shows them, so each one is
written for a person who has never seen the code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from perdure_api import cel
from perdure_api.model import ApiModel

NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
ENV_NAME_PATTERN: Final = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
URI_LIMIT: Final = 1024
PRIORITY_LIMIT: Final = 1000
RESERVED_ENV_PREFIXES: Final = ("PERDURE_", "PET_", "KUBEFLOW_TRAINER_")

_SOURCE_URI_RULE = cel.rules(
    cel.rule(
        cel.MODEL_URI,
        "must be s3://bucket/path, gs://bucket/path, az://container/path or file:///path (a path in the image)",
    )
)
_STORE_URI_RULE = cel.rules(
    cel.rule(
        cel.STORE_URI,
        "must be s3://bucket/path, gs://bucket/path or az://container/path: a folder in a pod would be lost with it",
    )
)

SourceUri = Annotated[str, Field(min_length=1, max_length=URI_LIMIT, json_schema_extra=_SOURCE_URI_RULE)]
StoreUriText = Annotated[str, Field(min_length=1, max_length=URI_LIMIT, json_schema_extra=_STORE_URI_RULE)]
Quantity = Annotated[
    str | int,
    Field(
        union_mode="left_to_right",
        json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": QUANTITY_PATTERN, "maxLength": 32},
    ),
]


class ModelSpec(ApiModel):
    """The base model, which stays as it is: training adds an adapter to it."""

    uri: SourceUri = Field(
        description="Folder of the base model: Hugging Face layout (config.json, *.safetensors, tokenizer) or one "
        "GGUF file with its tokenizer. s3://, gs://, az://, or file:/// for a path in the trainer's image."
    )


class DatasetFormat(StrEnum):
    """How a dataset file is read."""

    AUTO = "auto"
    """As its first bytes and its name say."""
    TEXT = "text"
    """Plain UTF-8 text, one document a file."""
    JSONL = "jsonl"
    """One JSON object a line."""
    PARQUET = "parquet"
    """One record a row."""


class RecordFields(StrEnum):
    """Which fields of a record are trained on."""

    AUTO = "auto"
    """Those that the first record has."""
    TEXT = "text"
    COMPLETION = "completion"
    MESSAGES = "messages"
    SPEECH = "speech"


class DatasetSpec(ApiModel):
    """What to train on."""

    model_config = {
        "json_schema_extra": cel.rules(
            cel.rule(
                "!has(self.evalUri) || !((self.uri.endsWith('/') && self.evalUri.startsWith(self.uri)) || "
                "(self.evalUri.endsWith('/') && self.uri.startsWith(self.evalUri)))",
                "uri and evalUri must not lie one below the other: what is trained on would be measured with",
            )
        )
    }

    uri: SourceUri = Field(
        description='The training data: one file, or a folder when it ends in "/": then every data file below it, in '
        "the order of their names. Files may be compressed with gzip or zstd. They are read and checked before any "
        "GPU is asked for."
    )
    eval_uri: SourceUri | None = Field(
        default=None,
        description="Held-out data to measure the loss on, by the same rules as uri. Without it, the last "
        "evalFraction of the training data is held out and never trained on.",
    )
    eval_fraction: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of the training data that is held out when evalUri is not given.",
    )
    format: DatasetFormat = Field(
        default=DatasetFormat.AUTO,
        description="jsonl: one JSON object a line. parquet: one record a row. text: plain UTF-8 text, one document "
        "a file. auto: Parquet is known by its content and text by its name (.txt, .text, .md); all else is jsonl.",
    )
    records: RecordFields = Field(
        default=RecordFields.AUTO,
        description="What to train on in each record of jsonl and parquet. text: textField. completion: prompt and "
        "completion, both text, of which the completion is learnt. messages: a list of role and content, of which "
        "the assistant's turns are learnt. speech: audio, a WAV file (its path relative to the file that names it, or "
        "its URI), and textField, what is said in it. auto: whichever of these the first record has.",
    )
    text_field: str = Field(
        default="text",
        min_length=1,
        max_length=128,
        description="The field of a record that holds its text. Another name than text says that text it is.",
    )


class OutputSpec(ApiModel):
    """Where the run's work is kept."""

    uri: StoreUriText = Field(
        description="Folder for checkpoints, adapter and results. Each TrainingJob writes below runs/<its uid>/ there, "
        "so several may share it and none overwrites another."
    )


class LoraSpec(ApiModel):
    """The adapter: low-rank updates (LoRA, Hu et al. 2021) beside frozen weights."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of the update matrices.")
    alpha: float = Field(
        default=32.0, gt=0, le=65536, description="Scale of the update: it is multiplied by alpha / rank."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of the adapter's inputs dropped while training.")
    target_modules: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=64)] = Field(
        default=[],
        description="Names of the layers to adapt, such as q_proj. Left empty: every linear layer but the output head.",
    )


class Scheduler(StrEnum):
    """How the learning rate goes down after warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"


class Precision(StrEnum):
    """The number format of the frozen weights and of the arithmetic."""

    AUTO = "auto"
    """bfloat16 where the accelerator has it, float32 elsewhere."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class TrainingSpec(ApiModel):
    """How long and how to train. Give maxSteps or epochs."""

    model_config = {
        "json_schema_extra": cel.rules(
            cel.rule(
                "has(self.maxSteps) != has(self.epochs)",
                "give exactly one of maxSteps and epochs",
            )
        )
    }

    max_steps: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Number of optimizer steps. Either this or epochs."
    )
    epochs: float | None = Field(
        default=None, gt=0, le=10_000, description="Passes over the training data. Either this or maxSteps."
    )
    batch_size: int = Field(
        default=4, ge=1, le=65536, description="Sequences a device works on at a time (micro-batch)."
    )
    gradient_accumulation_steps: int = Field(
        default=1, ge=1, le=65536, description="Micro-batches summed before each optimizer step."
    )
    learning_rate: float = Field(default=2e-4, gt=0, le=10, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(
        default=0, ge=0, le=100_000_000, description="Steps over which the learning rate rises from 0."
    )
    scheduler: Scheduler = Field(
        default=Scheduler.LINEAR, description="Course of the learning rate after warm-up: linear, cosine or constant."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=10, description="Decoupled weight decay of AdamW.")
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1_000_000, description="Gradients are scaled down to this norm; 0 switches it off."
    )
    sequence_length: int = Field(default=512, ge=8, le=1_048_576, description="Tokens per training sequence.")
    packing: bool = Field(
        default=True,
        description="Short documents share a training sequence, and none sees another: nothing is spent on padding. "
        "Without it each is a sequence of its own, and batchSize counts those.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute activations twice instead of keeping them: less memory, a third more time.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2_147_483_647,
        description="Seed of everything random: order, dropout, adapter initialisation.",
    )
    precision: Precision = Field(
        default=Precision.AUTO,
        description="auto: bfloat16 where the accelerator has it, float32 elsewhere. Or float32, bfloat16.",
    )


class SecretKeyRef(ApiModel):
    """One key of a Secret in the TrainingJob's namespace."""

    name: str = Field(min_length=1, max_length=253, pattern=NAME_PATTERN, description="Name of the Secret.")
    key: str = Field(min_length=1, max_length=253, description="Key in the Secret.")


class EnvValueSource(ApiModel):
    """Where a value comes from."""

    secret_key_ref: SecretKeyRef = Field(description="Take the value from a Secret in the same namespace.")


class EnvVar(ApiModel):
    """One environment variable. Give value or valueFrom."""

    model_config = {
        "json_schema_extra": cel.rules(
            cel.rule("has(self.value) != has(self.valueFrom)", "give exactly one of value and valueFrom"),
            cel.rule(
                " && ".join(f"!self.name.startsWith('{prefix}')" for prefix in RESERVED_ENV_PREFIXES),
                f"names that start with {', '.join(RESERVED_ENV_PREFIXES)} are set by Perdure; choose another",
            ),
        )
    }

    name: str = Field(min_length=1, max_length=256, pattern=ENV_NAME_PATTERN, description="Name of the variable.")
    value: str | None = Field(default=None, max_length=8192, description="The value itself.")
    value_from: EnvValueSource | None = Field(default=None, description="Where the value comes from.")


class TrainerSpec(ApiModel):
    """The container that trains. Without a command it is the built-in LoRA trainer; with one, any trainer at all."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Container image. Left out: the built-in trainer's image, as the installation sets it.",
    )
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = Field(
        default=[],
        description="Command to run instead of the built-in trainer. Exit code 0 is success; model, dataset, output "
        "and training may then be left out. As in any pod, $(NAME) is replaced by that variable, and $$ by $.",
    )
    args: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=256)] = Field(
        default=[], description="Arguments of the command."
    )
    env: Annotated[list[EnvVar], Field(max_length=128)] = Field(
        default=[],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Further environment variables.",
    )
    service_account_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=NAME_PATTERN,
        description="Service account of the training pod, for stores that know workload identity. The pod gets no "
        "token for the Kubernetes API.",
    )


class TolerationOperator(StrEnum):
    """As in a pod."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """As in a pod."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """As in a pod: lets the training pod onto tainted nodes."""

    key: str | None = Field(default=None, max_length=317, description="Key of the taint; left out: every key.")
    operator: TolerationOperator = Field(default=TolerationOperator.EQUAL, description="Exists or Equal.")
    value: str | None = Field(default=None, max_length=63, description="Value of the taint, with Equal.")
    effect: TaintEffect | None = Field(default=None, description="Effect of the taint; left out: every effect.")
    toleration_seconds: int | None = Field(
        default=None,
        ge=0,
        le=86_400 * 365,
        description="With NoExecute: how long the pod stays after the taint appears.",
    )


NodeSelector = Annotated[
    dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]], Field(max_length=32)
]


class AlternativeSpec(ApiModel):
    """Other resources for where the first cannot be had. What is left out is as in those."""

    model_config = {
        "json_schema_extra": cel.rules(
            cel.rule(
                "has(self.gpusPerNode) || has(self.cpu) || has(self.memory) || has(self.ephemeralStorage) || "
                "has(self.nodeSelector) || has(self.tolerations)",
                "an alternative must differ in something: gpusPerNode, cpu, memory, ephemeralStorage, nodeSelector or "
                "tolerations",
            )
        )
    }

    gpus_per_node: int | None = Field(default=None, ge=0, le=64, description="GPUs of the pod instead.")
    cpu: Quantity | None = Field(default=None, description="CPU request and limit of the pod instead.")
    memory: Quantity | None = Field(default=None, description="Memory request and limit of the pod instead.")
    ephemeral_storage: Quantity | None = Field(default=None, description="Disk request and limit of the pod instead.")
    node_selector: NodeSelector | None = Field(default=None, description="Labels that a node must have instead.")
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = Field(
        default=None, description="Taints that the pod tolerates instead."
    )


class ResourcesSpec(ApiModel):
    """What training needs: the rest is for each node."""

    model_config = {
        "json_schema_extra": cel.rules(
            cel.rule(
                "!has(self.minNodes) || self.minNodes <= self.nodes",
                "minNodes must not be more than nodes: it is what fewer nodes are enough",
            ),
            cel.rule(
                "!has(self.regrow) || !self.regrow || (has(self.minNodes) && self.minNodes < self.nodes)",
                "regrow needs a minNodes below nodes: otherwise a job never goes on with fewer",
            ),
        )
    }

    nodes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Nodes that train as one, a pod on each: an attempt is all of them, and fails when one does. Each "
        "works on batchSize sequences at a time. The pods get torchrun's variables (PET_*) and find each other; the "
        "built-in trainer is one process with one GPU on each.",
    )
    min_nodes: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="When not all nodes are to be had within deadlines.startSeconds: go on with as many as there are, "
        "at least so many. Each step is then over fewer sequences. Left out: all nodes are needed.",
    )
    regrow: bool = Field(
        default=False,
        description="When a job goes on with fewer nodes: ask for the others meanwhile, by pods that do nothing but "
        "hold their places, and go on with all of them as soon as they are there, from a checkpoint saved then.",
    )
    alternatives: Annotated[list[AlternativeSpec], Field(max_length=8)] = Field(
        default=[],
        description="What to ask for instead, in this order, when an attempt finds no place (or image) within "
        "deadlines.startSeconds. They come before fewer nodes.",
    )
    gpus_per_node: int = Field(default=0, ge=0, le=64, description="GPUs of the pod (nvidia.com/gpu).")
    cpu: Quantity | None = Field(default=None, description='CPU request and limit of the pod, such as "4" or "500m".')
    memory: Quantity | None = Field(default=None, description='Memory request and limit of the pod, such as "16Gi".')
    ephemeral_storage: Quantity | None = Field(
        default=None,
        description='Disk request and limit of the pod, such as "50Gi": for its scratch folder, its log, and whatever '
        "else it writes on its node. A pod that writes more is ended by its node (OutOfDisk); one that has asked for "
        "what it needs is not ended when others fill the disk.",
    )
    node_selector: NodeSelector = Field(default={}, description="Labels that a node must have.")
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(
        default=[], description="Taints that the pod tolerates."
    )


class CheckpointSpec(ApiModel):
    """When the built-in trainer saves its state, and how much of it is kept."""

    every_steps: int = Field(default=500, ge=1, le=100_000_000, description="Save after this many steps.")
    every_seconds: int | None = Field(
        default=None, ge=1, le=86_400 * 30, description="Save also when this much time has passed."
    )
    keep: int = Field(
        default=2,
        ge=2,
        le=1000,
        description="Newest checkpoints to keep; at least 2, so that a broken newest one loses little.",
    )
    max_failures: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Saves that may fail in a row, a few seconds apart, before the attempt is given up and tried again "
        "elsewhere. Until then training goes on.",
    )


class RetrySpec(ApiModel):
    """What happens after a failed attempt."""

    max_attempts: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Attempts that may end in a failure. Preempted, evicted and lost pods do not count.",
    )
    initial_interval_seconds: int = Field(default=10, ge=0, le=86_400, description="Wait after the first failure.")
    backoff_coefficient: float = Field(
        default=2.0, ge=1, le=100, description="Each further wait is this many times longer."
    )
    max_interval_seconds: int = Field(default=600, ge=0, le=604_800, description="Longest wait.")
    non_retryable_exit_codes: Annotated[list[Annotated[int, Field(ge=1, le=255)]], Field(max_length=255)] = Field(
        default=[],
        description="Exit codes after which the job fails at once. Always among them: 64, 65, 78, 79.",
    )


class DeadlinesSpec(ApiModel):
    """How long things may take."""

    start_seconds: int = Field(
        default=3600,
        ge=1,
        le=86_400 * 30,
        description="An attempt's pods must be running after this time: else it is ended, and says what they lacked. "
        "Where that was room or an image, alternatives and fewer nodes are tried, and then the job fails; where a node "
        "only took too long to start one, it is tried again like one that failed.",
    )
    progress_seconds: int | None = Field(
        default=None,
        ge=10,
        le=86_400 * 30,
        description="An attempt that has told nothing new for so long hangs: it is ended, says where each of its "
        "threads was, and is tried again like one that failed. Counts from when its pod runs, so it must be longer "
        "than reading the data and evaluating take. Left out: attempts may be silent for ever.",
    )
    active_seconds: int | None = Field(
        default=None, ge=1, le=86_400 * 365, description="The whole job must end within this time."
    )


_BUILT_IN_NEEDS: Final = ("model", "dataset", "output", "training")


class DeletionPolicy(StrEnum):
    """What becomes of a run's checkpoints when its TrainingJob is deleted."""

    KEEP_CHECKPOINTS = "KeepCheckpoints"
    DELETE_CHECKPOINTS = "DeleteCheckpoints"


def _spec_rules(_: Any = None) -> dict[str, Any]:
    fields = (
        "model",
        "dataset",
        "output",
        "lora",
        "training",
        "trainer",
        "resources",
        "checkpoint",
        "retry",
        "deadlines",
    )
    needs = " && ".join(f"has(self.{name})" for name in _BUILT_IN_NEEDS)
    own_command = "(has(self.trainer) && has(self.trainer.command) && size(self.trainer.command) > 0)"
    return cel.rules(
        cel.rule(
            f"{own_command} || ({needs})",
            "model, dataset, output and training are needed by the built-in trainer; give them, or set "
            "trainer.command to run a trainer of your own",
        ),
        *(cel.immutable(name) for name in fields),
    )


class TrainingJobSpec(ApiModel):
    """A training job: one run from data to adapter.

    Everything but priority, suspend, ttlSecondsAfterFinished and deletionPolicy is immutable.
    """

    model_config = {"json_schema_extra": _spec_rules()}

    model: ModelSpec | None = None
    dataset: DatasetSpec | None = None
    output: OutputSpec | None = None
    lora: LoraSpec | None = Field(default=None, description="Left out: rank 16 on every linear layer.")
    training: TrainingSpec | None = None
    trainer: TrainerSpec | None = None
    resources: ResourcesSpec | None = None
    checkpoint: CheckpointSpec | None = None
    retry: RetrySpec | None = None
    deadlines: DeadlinesSpec | None = None
    priority: int = Field(
        default=0,
        ge=-PRIORITY_LIMIT,
        le=PRIORITY_LIMIT,
        description="Who goes first where jobs wait for their turn, because the installation limits how many run at a "
        "time: each point is worth a day in line. What runs is never stopped for another. Mutable.",
    )
    suspend: bool = Field(
        default=False,
        description="True: the trainer saves, its pods end, and the job waits, without using up an attempt or time of "
        "deadlines.activeSeconds. False again: it goes on from what was saved. Mutable.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=86_400 * 3650,
        description="Delete this object so long after it finished; its adapter stays. Left out: it is kept. Mutable.",
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.KEEP_CHECKPOINTS,
        description="What becomes of the checkpoints when this object is deleted, by whomever. KeepCheckpoints: they "
        "stay. DeleteCheckpoints: they are deleted first, and so are the tokens of the dataset that are kept beside "
        "them; the adapter, the results and all else stay. Mutable, also while the deletion waits.",
    )

    @property
    def built_in(self) -> bool:
        """Whether the built-in LoRA trainer runs, which can be relied on for results and checkpoints."""
        return self.trainer is None or not self.trainer.command

    @property
    def nodes(self) -> int:
        """Nodes that train as one."""
        return (self.resources or ResourcesSpec()).nodes

    def completed(self) -> TrainingJobSpec:
        """The same wish with every part that was left out filled in with its defaults."""
        return self.model_copy(
            update={
                "lora": self.lora or LoraSpec(),
                "trainer": self.trainer or TrainerSpec(),
                "resources": self.resources or ResourcesSpec(),
                "checkpoint": self.checkpoint or CheckpointSpec(),
                "retry": self.retry or RetrySpec(),
                "deadlines": self.deadlines or DeadlinesSpec(),
            }
        )
