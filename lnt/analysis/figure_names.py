"""What things are called in figures: axes by column, conditions in titles, options in legends."""

import re

from lnt.analysis.figure_style import in_force

LABELS = {
    "data.dim": "dimension $d$",
    "data.n_train": "training samples $n$",
    "data.dim_over_n": "dimensions per sample $d/n$",
    "data.n_gamma": r"signal $n|\mu|^2$",
    "data.signal_norm": r"signal norm $|\mu|$",
    "data.snr": r"SNR $|\mu|/(s\sqrt{d})$",
    "data.noise_std": "noise standard deviation $s$",
    "data.positive_share": "share of class +1",
    "data.noise_patches": "noise patches $L$",
    "data.noise_ratio": "noise in class $-1$, relative",
    "data.mixup": r"mixup $\alpha$",
    "noise.rate": r"label noise rate $\tau$",
    "optimizer.lr": r"step size $\eta$",
    "optimizer.rho": r"radius $\rho$ of SAM",
    "model.width": "filters per sign $m$",
    "model.leak": "slope of leaky ReLU below 0",
    "strategy_test_error": "test error as returned\nby the strategy",
    "test_error": "test error (true labels)",
    "test_error_rare": "test error (rarest feature)",
    "test_error_observed": "test error (observed labels)",
    "best_test_error": "lowest test error\n(same samples: optimistic)",
    "best_test_error_fresh": "test error at the best step",
    "price_of_memorising": "price of memorising\n(final minus best test error)",
    "stage1_step": "step: clean fitted",
    "stage2_step": "step: mislabelled fitted",
    "stage1_time": "time: clean fitted",
    "stage2_time": "time: mislabelled fitted",
    "clean_accuracy": "fitted share of clean samples",
    "noisy_accuracy": "memorised share of mislabelled samples",
    "overtaken_share": r"share of mislabelled samples with $\bar\rho > \gamma$",
    "signal_coef": r"signal coefficient $\gamma$ (max)",
    "noise_coef_clean": r"noise coefficient $\bar\rho$, clean (max)",
    "noise_coef_noisy": r"noise coefficient $\bar\rho$, mislabelled (max)",
    "train_loss": "training loss",
    "clean_loss": "training loss of clean samples",
    "noisy_loss": "training loss of mislabelled samples",
    "best_step": "step of the lowest test error",
    "kept_share": "share of samples kept",
    "kept_precision": "clean share of samples kept",
    "kept_recall": "kept share of clean samples",
    "selection_auc": "AUC of the loss",
    "selection_auc_best": "AUC of the loss at the best step",
    "transition_error": "error of the estimated transition",
    "step": "gradient step",
    "t1": r"time in $T_1 = nm/(\eta s^2 d)$",
}
# TeX in labels and laws, and the same as text
SYMBOLS = {
    r"\mathrm{SNR}": "SNR",
    r"\sqrt{d}": "√d",
    r"\mu": "μ",
    r"\tau": "τ",
    r"\eta": "η",
    r"\bar\rho": "ρ̄",
    r"\rho": "ρ",
    r"\gamma": "γ",
    r"\alpha": "α",
    "T_1": "T₁",
    r"\,": " ",
    "^2": "²",
    "^4": "⁴",
    "$": "",
}
IN_TITLES = {  # symbols of keys
    "data.dim": "d",
    "data.n_train": "n",
    "data.dim_over_n": "d/n",
    "data.n_gamma": r"n|\mu|^2",
    "data.signal_norm": r"|\mu|",
    "data.snr": r"\mathrm{SNR}",
    "data.noise_std": "s",
    "data.noise_patches": "L",
    "data.mixup": r"\alpha",
    "noise.rate": r"\tau",
    "noise.rate_positive": r"\tau_+",
    "noise.rate_negative": r"\tau_-",
    "optimizer.lr": r"\eta",
    "optimizer.rho": r"\rho",
    "model.width": "m",
    "model.init_std": "s_{0}",
    "model.power": "q",
}


def label(key: str) -> str:
    """The axis label of a column."""
    return in_force().labels.get(key) or LABELS.get(key, key)


def level(name: str) -> str:
    """The name of an option with its settings, as `small_loss keep=share`: one's own name of it, or of its words."""
    own = in_force().labels
    if name in own or not own:
        return own.get(name, name)
    settings = {key.rpartition(".")[2]: text for key, text in own.items() if "." in key}
    words = []
    for word in name.split(" "):
        setting, sign, value = word.partition("=")
        words.append(f"{settings.get(setting, setting)}={own.get(value, value)}" if sign else own.get(word, word))
    return " ".join(words)


def heading(title: str) -> str:
    """A title of conditions, key=value, key=value, with one's own names, or the symbols of the theory, for keys."""
    return re.sub(
        r"(^|, )([A-Za-z_][\w.]*)=((?:[^,\[]|\[[^]]*\])*)", lambda found: found[1] + _setting(found[2], found[3]), title
    )


def _setting(key: str, value: str) -> str:
    own = in_force().labels
    if key in own:
        return f"{own[key]} {own.get(value, value)}"
    if key in IN_TITLES and re.fullmatch(r"[-+.\de]+", value):
        return f"${IN_TITLES[key]}={power_of_ten(value)}$"
    return f"{key}={own.get(value, value)}"


def power_of_ten(number: str) -> str:
    """A number of Python's as TeX: 2e-05 as 2 x 10^-5."""
    digits, is_power, power = number.partition("e")
    if not is_power:
        return number
    return {"1": "", "-1": "-"}.get(digits, rf"{digits}\times ") + f"10^{{{int(power)}}}"


def quantity(key: str) -> str:
    """What a column measures, in a word or two: its label without what is in brackets."""
    return label(key).split("\n")[0].split(" (")[0]


def as_text(formula: str) -> str:
    """A formula of TeX as text, for captions and the page."""
    return re.sub("|".join(map(re.escape, SYMBOLS)), lambda found: SYMBOLS[found[0]], formula)
