"""Names of all that is measured and recorded: the columns of every table. Training writes them, the analysis reads them.

docs/results.md has the meaning and the unit of each.
"""

from collections.abc import Mapping
from typing import Any

COMPONENTS = ("data", "noise", "model", "loss", "optimizer", "strategy")  # the groups of conf/, each with a column of its own
SEEDS = ("seed", "seeds.data", "seeds.noise", "seeds.init", "seeds.order", "seeds.test")

# Settings that say how to run, not what: they are no columns, and another value of them is no other run.
EXECUTION_SETTINGS = ("keep_networks", "checkpoint_seconds", "metrics")
# Columns that cannot change a result: seeds.* say what `seed` stands for, and a file's content counts, not its place.
NOT_IN_RUN_ID = ("seed", "device", "data.root", "data.download", "data.verify", "data.file", "noise.file")
# Columns that came later, with the value that runs had before: left out of the run_id at this value, so that ids stay.
ADDED_LATER = {"loss": "logistic"}
# The same for settings of single options.
ADDED_TO_VECTORS: Mapping[str, Any] = {"noise_patches": 1, "mixup": 0.0, "balanced": False}
ADDED_TO_IMAGES: Mapping[str, Any] = {"mixup": 0.0}
ADDED_TO_TWO_CLASSES: Mapping[str, Any] = {"positive_share": 0.5, "noise_ratio": 1.0}
ADDED_TO_STEPS: Mapping[str, Any] = {"schedule": "constant", "milestones": None, "drop": 0.1, "until": "end"}
ADDED_TO_VGG: Mapping[str, Any] = {"head": "linear", "dropout": 0.0}
ADDED_TO_OPTIONS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("data", "digits"): ADDED_TO_IMAGES,
    ("data", "mnist"): ADDED_TO_IMAGES,
    ("data", "fashion_mnist"): ADDED_TO_IMAGES,
    ("data", "cifar10"): {**ADDED_TO_IMAGES, "verify": True},
    ("data", "cifar100"): {**ADDED_TO_IMAGES, "verify": True},
    ("strategy", "small_loss"): {"rate": "oracle", "signal": "loss"},
    ("strategy", "co_teaching"): {"rate": "oracle", "within": "all", "disagreement": False, "initial": 0},
    ("noise", "symmetric"): {"includes_true": False, "rounding": "nearest"},
    ("noise", "instance"): {"law": "ranked"},
    ("optimizer", "sgd"): {"milestones": None, "drop": 0.1},
    ("optimizer", "adam"): {"milestones": None, "drop": 0.1},
    ("optimizer", "adamw"): {"drop": 0.1},
    ("optimizer", "gd"): {"until": "end"},
    ("optimizer", "flow"): {"until": "end"},
    ("optimizer", "sam"): ADDED_TO_STEPS,
    ("optimizer", "normalized_gd"): ADDED_TO_STEPS,
    ("optimizer", "muon"): ADDED_TO_STEPS,
    ("model", "vgg11"): ADDED_TO_VGG,
    ("model", "vgg16"): ADDED_TO_VGG,
    ("data", "signal_noise"): {**ADDED_TO_VECTORS, **ADDED_TO_TWO_CLASSES},
    ("data", "mixture"): {**ADDED_TO_VECTORS, **ADDED_TO_TWO_CLASSES},
    ("data", "xor"): {**ADDED_TO_VECTORS, **ADDED_TO_TWO_CLASSES},
    ("data", "xor_mixture"): {**ADDED_TO_VECTORS, **ADDED_TO_TWO_CLASSES},
    ("data", "signal_noise_classes"): {"shares": None},
    ("model", "two_layer_cnn"): {
        "init_law": "normal",
        "activation": "relu",
        "leak": 0.01,
        "output": "mean",
        "second_layer": "fixed",
        "second_layer_rate": 1.0,
    },
}


def added_later(choices: Mapping[str, Any]) -> dict[str, Any]:
    """All keys that came later than the first run_ids, with the values that runs with these options had before."""
    settings = {
        f"{group}.{key}": value
        for (group, option), later in ADDED_TO_OPTIONS.items()
        if choices.get(group) == option
        for key, value in later.items()
    }
    return {**ADDED_LATER, **settings}


METRICS = (
    "train_loss",  # mean loss against observed labels; with `resample` those of the update to come, as in all metrics
    "clean_loss",  # the same over correctly labelled samples
    "noisy_loss",  # the same over mislabelled samples
    "train_loss_used",  # train_loss against the labels of the update before; without `resample` they are the same labels
    "clean_accuracy",  # share of correctly labelled samples predicted as labelled
    "noisy_accuracy",  # share of mislabelled samples predicted as (wrongly) labelled
    "test_error",  # share of test samples predicted wrong against true labels
    "test_error_rare",  # the same among the test samples that show the rarest feature
    "test_error_observed",  # the same against labels with the training noise: the mean over it, or on images one draw
    "signal_coef",  # max over filters of gamma
    "signal_coef_mean",
    "signal_coef_min",
    "noise_coef_clean",  # max of rho over filters and correctly labelled samples with observed label j
    "noise_coef_clean_mean",
    "noise_coef_noisy",  # the same over mislabelled samples
    "noise_coef_noisy_mean",
    "overtaken_share",  # share of mislabelled samples whose largest rho exceeds the largest gamma
    "decomposition_residual",
    "selection_precision",  # share of clean samples among those with a loss below that at margin 0 (log 2)
    "selection_recall",  # share of clean samples with a loss below that at margin 0
    "selection_auc",  # P(loss of a clean sample < loss of a mislabelled one)
    "auc_margin",  # the same of minus the margin of the observed class
    "auc_learning_time",  # of the recorded step from which on a sample is predicted as observed
    "auc_wrong_events",  # of the recorded steps so far at which it is not
    "realised_noise_rate",
    "kept_share",  # share of samples that the strategy trains on
    "kept_precision",  # share of correctly labelled samples among these
    "kept_recall",  # share of the correctly labelled samples that are among these
    "stopping_criterion",  # what early stopping looks at
)

SELECTION_AUCS = ("selection_auc", "auc_margin", "auc_learning_time", "auc_wrong_events")
OF_TRUTH = (  # metrics that need the true labels of training samples
    *("clean_loss", "noisy_loss", "clean_accuracy", "noisy_accuracy", "realised_noise_rate", "kept_precision", "kept_recall"),
    *("selection_precision", "selection_recall", *SELECTION_AUCS),
)
OF_TEST_TRUTH = ("test_error", "test_error_rare")  # and those that need the true labels of test samples
ADDED_METRICS = (
    "train_loss_used",
    "test_error_rare",
    *SELECTION_AUCS[1:],
)  # they came later: checkpoints of earlier versions lack them

OUTCOME_TYPES = {  # of runs.parquet, after the configuration
    "status": "str",
    "error": "str",
    "last_step": "Int64",
    **dict.fromkeys(METRICS, "float64"),
    "best_test_error": "float64",  # selected and evaluated on the same samples: optimistic
    "best_test_error_fresh": "float64",  # selected on one half of the test set, evaluated on the other
    "best_step": "Int64",
    **{f"{name}_best": "float64" for name in SELECTION_AUCS},  # at best_step
    "strategy_test_error": "float64",  # of the network that the strategy returns
    "strategy_step": "Int64",
    "stage1_step": "Int64",
    "stage2_step": "Int64",
    "stage1_time": "float64",  # where the optimizer moves between steps: optimizer=flow
    "stage2_time": "float64",
    "step_size": "float64",
    "flip_rate": "float64",  # P(observed != true) of the label noise; the next two of the true classes +1 and -1
    "flip_rate_positive": "float64",
    "flip_rate_negative": "float64",
    "clean_positive": "Int64",  # training samples of the true class +1 that are observed as such, at last_step
    "clean_negative": "Int64",
    "flipped_positive": "Int64",  # those of the true class +1 that are observed as -1
    "flipped_negative": "Int64",
    "realised_transition": "str",  # P(observed | true) among the training samples of a run on images, as JSON
    "estimated_transition": "str",  # P(observed | true) as strategy=estimated_transition has estimated it, as JSON
    "transition_error": "float64",  # mean over its entries of |estimated - true|
    "estimated_flip_rate_positive": "float64",  # what it says of the true classes +1 and -1
    "estimated_flip_rate_negative": "float64",
    "wall_seconds": "float64",
}

STATES = ("best", "last")  # networks on images that are kept: at the lowest test error, at the end
KINDS = ("mislabelled", "clean")  # of samples
ERRORS = (  # from 0 to 1
    *("test_error", "test_error_rare", "test_error_observed", "best_test_error", "best_test_error_fresh"),
    "strategy_test_error",
)
# Names that a user's own metric cannot have.
TAKEN = {"run_id", "step", "price_of_memorising", *COMPONENTS, *SEEDS, *OUTCOME_TYPES}
TAKEN |= {"engine", "device", "precision", "recordings"}  # the top-level settings
