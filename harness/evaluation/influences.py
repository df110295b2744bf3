"""Every input of a run: whether it changes answers, and whether the run's hash changes with it.

A run is resumed, compared and averaged by its hash, so what changes answers has to change the hash. Tests hold this
table against `RunSettings`, against the variables that the code reads, and against what really happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

YES: Final = "yes"
NO: Final = "no"
ROUNDING: Final = "rounding"


@dataclass(frozen=True)
class Influence:
    """One input.

    Attributes
    ----------
    name
        As a user writes it.
    kind
        What it is.
    answers
        ``"yes"``, ``"no"``, or ``"rounding"``: only the last digits of logits, which may tip an answer between equals.
    hashed
        Whether the run's hash changes with it. What only rounds is in ``run.json`` instead, and a run that was resumed
        with another value says so.
    how
        Where it is covered, or why it need not be.
    """

    name: str
    kind: Literal["flag", "file", "variable", "machine"]
    answers: Literal["yes", "no", "rounding"]
    hashed: bool
    how: str


def _flag(name: str, answers: Literal["yes", "no", "rounding"], how: str) -> Influence:
    return Influence(name, "flag", answers, answers == YES, how)


INFLUENCES: tuple[Influence, ...] = (
    _flag("--method", YES, "its name and version"),
    _flag("options of the method", YES, "each, defaults included; the version of its words for BM25"),
    _flag("--task", YES, "names, versions and protocols of the tasks"),
    _flag("--set (options of a task)", YES, "each, defaults included"),
    _flag("--model", YES, "the contents of its files, not its name"),
    _flag("--adapter", YES, "the hash of its card, which has those of its files"),
    _flag("--context-length", YES, "the window"),
    _flag("--max-context", YES, "itself"),
    _flag("--budget", YES, "the number of KV entries that it stands for"),
    _flag("--truncate", YES, "itself"),
    _flag("--chat", YES, "whether a template is used"),
    _flag("--limit, samples one by one", NO, "a higher one goes on with the same run"),
    _flag("--limit, in batches", YES, "it decides who is in the last batch"),
    _flag("--seed", YES, "itself"),
    _flag("--dtype", YES, "the type that was chosen"),
    _flag("--device", YES, "its kind: cpu, cuda"),
    _flag("--device-map", NO, "where layers lie: they compute the same; the kind of device is covered"),
    _flag("--batch-size", YES, "itself"),
    _flag("--query-agnostic", YES, "itself, where the method would else see the question"),
    _flag(
        "--protocol",
        YES,
        "as --query-agnostic; of samples with several questions also how often they compress",
    ),
    _flag("--share, samples one by one", NO, "shared contexts give the same answers"),
    _flag("--share, in batches", YES, "it decides who is in a batch"),
    _flag("--data-dir", NO, "a place; what is in it is covered (data files)"),
    _flag("--offline", NO, "whether to fetch; what was fetched is covered"),
    _flag("--sample-timeout", NO, "a sample that takes longer fails, and is run again"),
    _flag("--join", NO, "whoever asks a sample; the number of threads may differ (below)"),
    _flag("--engine, --workers, --address", NO, "whoever asks a sample, as with --join"),
    _flag("--out", NO, "a place"),
    _flag("--plugin", YES, "the text of the file, and of the modules beside it that it imports"),
    _flag("--trust-remote-code", YES, "itself"),
    _flag("--allow-unused-weights", YES, "itself"),
    _flag(
        "--skip-unavailable",
        NO,
        "which tasks are asked; those that are, are asked alike, and are in the hash",
    ),
    _flag("--trust-task-code", NO, "without it the task is refused; its configuration and data are covered"),
    _flag("--model-args", NO, "another way to say --model, --dtype and the like, which are covered"),
    _flag("--track", NO, "numbers are sent elsewhere too"),
    _flag("--save-config", NO, "only what is written beside"),
    _flag("--json, --quiet", NO, "only what is printed"),
    Influence("config.json, weights", "file", YES, True, "a hash over their contents"),
    Influence(
        "tokenizer files, chat template",
        "file",
        YES,
        True,
        "a hash over what turns text into tokens and back",
    ),
    Influence(
        "generation_config.json", "file", YES, True, "of all it says only end tokens count, which are covered"
    ),
    Influence("adapter_config.json beside a model", "file", NO, False, "such a folder is refused"),
    Influence("files of an adapter", "file", YES, True, "hashes in its card; others are not read"),
    Influence("data files of tasks", "file", YES, True, "a fingerprint of all of a task's data"),
    Influence(
        "YAML of lm-eval tasks", "file", YES, True, "its whole configuration, functions' source, and data"
    ),
    Influence("suite.yaml, run.yaml", "file", NO, False, "the runs it stands for have hashes of their own"),
    Influence(
        "cached conversions, hashes, downloads",
        "file",
        NO,
        False,
        "made from what is covered; checked on use",
    ),
    Influence(
        "cached calibrations", "file", ROUNDING, False, "computed from what is covered; named in run.json"
    ),
    Influence("HARNESS_CACHE, XDG_CACHE_HOME", "variable", NO, False, "a place"),
    Influence("HARNESS_SMOLLM2_WHEEL", "variable", NO, False, "a place; the file is held to its hash"),
    Influence("HARNESS_DEBUG, COLUMNS", "variable", NO, False, "only what is printed"),
    Influence(
        "HARNESS_STRICT_CHILD", "variable", NO, False, "set by harness check --strict for its own processes"
    ),
    Influence(
        "HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE",
        "variable",
        NO,
        False,
        "where files come from, which are covered",
    ),
    Influence(
        "WANDB_PROJECT, WANDB_SILENT, MLFLOW_EXPERIMENT_NAME, MLFLOW_HTTP_REQUEST_MAX_RETRIES, TENSORBOARD_LOGGING_DIR",
        "variable",
        NO,
        False,
        "for --track alone",
    ),
    Influence("OPENAI_API_KEY", "variable", NO, False, "for harness synth alone"),
    Influence(
        "LOCAL_RANK, LOCAL_WORLD_SIZE, RANK, WORLD_SIZE",
        "variable",
        NO,
        False,
        "whoever asks a sample; of a fit, in its card",
    ),
    Influence(
        "MASTER_ADDR, MASTER_PORT, TORCHELASTIC_RESTART_COUNT, TORCHELASTIC_USE_AGENT_STORE",
        "variable",
        NO,
        False,
        "where the processes of a launcher meet",
    ),
    Influence(
        "PYTHONHASHSEED", "variable", NO, False, "nothing goes through sets; harness check --strict tries two"
    ),
    Influence(
        "OMP_NUM_THREADS, MKL_NUM_THREADS", "variable", ROUNDING, False, "environment.threads in run.json"
    ),
    Influence("CUDA_VISIBLE_DEVICES", "variable", ROUNDING, False, "environment.gpu in run.json"),
    Influence(
        "versions of packages, Python, the system", "machine", ROUNDING, False, "environment in run.json"
    ),
    Influence("processor, GPU", "machine", ROUNDING, False, "environment in run.json"),
    Influence("version of the harness", "machine", YES, True, "itself"),
)
