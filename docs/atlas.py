"""The page docs/atlas.md: published diagrams beside ours, with their agreement in numbers (called by docs/draw.py)."""

from pathlib import Path

from atlas_studies import (
    at_equal_slopes,
    chen2023_sam,
    firdoussi2026,
    frei2022,
    kou2023_pseudolabels,
    leak_rate,
    liu2020_linear,
    pair_noise,
    robust_losses,
    robust_losses_digits,
    robust_losses_final,
    selection_signals,
    xu2024_grokking,
    zou2023_mixup,
)
from atlas_table import table

HEAD = """# Atlas of experiments

Each is one command, `python train.py experiment=NAME`, then `python analyze.py path=DIR`; settings and sources are in
conf/experiment/NAME.yaml. `python docs/draw.py` trains and measures all of it again and writes this page. "rms" is the root
mean square difference to published cells, "seeds alone" what it would be if only the seeds differed. Few papers publish their
numbers: where they do not, a program that shares no code, a theorem or a statement stands in their place. Intervals are of 95 %
over seeds.

"""


def page(results: Path) -> str:
    """The whole page."""
    return (
        HEAD
        + table(results)
        + """
Not all of it is reproduced as published ([studies](studies.md)). Our cells of kou2023 lie a little below the published ones,
more than seeds explain; the authors' program agrees with ours. Label-noise descent needs longer than published, which depends
on the initial scale. The boundary of cao2022 is flatter than the theorem, and those of meng2024_xor, frei2022 and SAM differ
from theirs by a little that the intervals resolve; these theorems are asymptotic. Two statements of Han et al. are contradicted
at these sizes ([scorecard](scorecard.md)). Real images have a [page of their own](images.md#real-results).

![error by n and d / n](karhadkar2024_phase_test_error.png)

## Losses that are called robust

`experiment=robust_losses` (settings are ours: n = 100, d = 4000, tau = 0.2, ten seeds). The time at which half of the
mislabelled samples are memorised for good, relative to the logistic loss on the same seeds: measured, with a 95 % interval over
seeds, and predicted by the mean-field theory with nothing fitted ([theory](theory.md)). MAE, GCE and the forward correction put
memorising off, the more the stronger the signal; SCE does for strong signals only, and label smoothing does not.

"""
        + robust_losses(results)
        + """
![measured against predicted](robust_losses_theory.png)

Much of such a factor is the unit of time. At margin 0 the losses fall at different rates, and a loss multiplied by c trains
as with c times the step size: forward and GCE start slower than logistic, SCE twice as fast. In units in which all fall alike
there (times multiplied by l'(0) over that of logistic) the factors are """
        + at_equal_slopes(results)
        + """. What is left is the shape of the loss: how
weakly it pulls a sample that is predicted wrong. Parameters and rate count, too. In these units the theory has 0.74 to 0.79 for
label smoothing with eps = 0.2 and 0.64 to 0.69 with 0.3; at tau = 0.1 it has 1.45 to 3.13 for GCE and 1.09 to 1.23 for forward.

The final error is no test of the losses here: it is 0 under all of them. In `experiment=robust_losses_final` it is not (n = 50,
d = 250, 30 % of the labels wrong, twenty seeds, everything memorised at the end). The other columns are differences
from logistic on the same seeds, at 50 and at 500 T1 of logistic.

"""
        + robust_losses_final(results)
        + """
MAE, GCE, SCE and forward, whose slopes fall as exp(-z) at large margins like that of logistic, end within 0.007 of its error,
intervals included; SCE and forward come closer to it between 50 and 500 T1. Label smoothing and squared end above it: they
want one margin of all samples, and push the clean ones down to it. Under logistic clean samples keep a lead in margin (5.3 to
4.8 at n SNR^2 = 2 and 200 T1, 6.3 to 5.7 at 500 T1, means over twelve seeds), which is an ever smaller share of margins that
grow with the logarithm of time. So its error still rises, and "final" is a matter of when.

On images, `experiment=robust_losses_digits`: the small network on handwritten 3 against 8 with 30 % of the labels flipped,
eight seeds, 150 epochs of mini-batches. At their best epochs all losses are alike; MAE, GCE and forward memorise less.
[MNIST](mnist.md) has the same with all ten classes, too.

"""
        + robust_losses_digits(results)
        + """

## The toy model of pseudo-labelers

`experiment=kou2023_pseudolabels` (Kou, Chen, Cao, Gu, ICLR 2023: cubic ReLU, sums over filters), trained on the labelled
samples alone. The paper's numbers are not public; beside ours are those of a plain PyTorch program on explicit vectors.
The error of the difference takes the standard deviation of our 100 runs for both programs: ten runs,
most of them near 0 or 1/2, do not tell theirs.

"""
        + kou2023_pseudolabels(results)
        + """
![test error by noise standard deviation](kou2023_pseudolabels_error_by_data.noise_std.png)

## Width and label-noise descent

`experiment=huang2025_width`: a public review of Huang et al. (NeurIPS 2025) reports that plain descent succeeds at m = 3 where
it fails at m = 20. It does, on a whole region: left plain descent, right label-noise descent with rate 0.1, ten seeds a cell.
Narrow networks learn the signal at an SNR at which wide ones memorise, and labels drawn afresh move that border to wider ones.
With 2 or 3 filters of a sign a few seeds end at an error of about 1/4: those in which no filter of one sign starts on its own
side of the signal, so that one class is never learnt (checked for all ten seeds at SNR 0.06).

![test error by width and SNR](huang2025_width_phase_test_error.png)

## Benign overfitting of leaky networks

`experiment=frei2022` (Frei, Chatterji, Bartlett, COLT 2022, Theorem 3.1; grid ours): a leaky network on a mixture of two
Gaussians, trained until it fits all labels, a tenth of them wrong. The theorem bounds its test error by
2 exp(-n |mu|^4 / (C s^4 d)).

"""
        + frei2022(results)
        + """
![test error by d / n and signal](frei2022_phase_test_error.png)

## Sharpness-aware minimisation

`experiment=chen2023_sam` (Chen et al., NeurIPS 2023; sizes and rho ours): left plain descent, right SAM, a tenth of the labels
wrong. By their theorems descent generalises from a signal of order d^(1/4) on, and SAM from one that does not grow with d.

"""
        + chen2023_sam(results)
        + """
![test error by dimension and signal under both](chen2023_sam_phase_test_error.png)

## Early learning of a linear classifier

`experiment=liu2020_linear` (Liu et al., NeurIPS 2020, Theorem 1; n = 200, p = 180 and a noise of 0.1 are ours). The theorem:
before some step the classifier predicts the true class of nearly all mislabelled samples; in the limit it memorises all.

"""
        + liu2020_linear(results)
        + """
![accuracies, losses and test error by step](liu2020_linear_stages.png)

## Rates in the loss that are not those of the noise

`experiment=firdoussi2026` (Firdoussi et al., arXiv 2405.14088; n = p = 1000, class share 0.3, rates 0.4 and 0.3, |mu| = 2; the
weight decay is ours). They show that the label-perturbed loss with the rates of the noise, which is unbiased and the best one
in low dimension, is not the best where p is of the order of n. Beside lnt stands the closed form of the same least-squares
problem on explicit vectors.

"""
        + firdoussi2026(results)
        + """
## Grokking on XOR clusters

`experiment=xu2024_grokking` (Xu et al., ICLR 2024; n = 200, d = 40 000 are ours). The theorem: after one step all labels are
fitted, a tenth of them wrong, and fresh samples are guessed; later all labels are still fitted, and the test error is small.

"""
        + xu2024_grokking(results)
        + """
![accuracies and test error by step](xu2024_grokking_stages.png)

## Mixup and a rare feature

`experiment=zou2023_mixup` (Zou et al., ICML 2023; sizes are ours, relu^2 for their activation): a tenth of the samples shows a
feature of its own. The theorems: ordinary training does not learn the rare feature, and memorises instead; mixup learns both.

"""
        + zou2023_mixup(results)
        + """
With `model.activation=quadratic model.power=1` nothing is learnt with or without mixup at norms of 4, 6, 8, 10, 12 and 16, ten
seeds each: the mean test errors over all are 0.500 [0.496, 0.503] and 0.500 [0.497, 0.503], with all training labels fitted.
No filters could do better: z^2 is the same at mu_k and -mu_k, which are the two classes here.

## Pair noise against symmetric noise

`experiment=pair_noise` (ours; [studies](studies.md) has the figure and what it says): five classes at n SNR^2 = 36. A share g
more of a class has the true label than the most frequent wrong one. Half of the mislabelled samples are fitted at the first
recorded step from 20 on that finds so many.

"""
        + pair_noise(results)
        + """
## The slope of leaky ReLU

`experiment=leak_rate` (ours): the test error that optimal early stopping reaches at n SNR^2 = 1, chosen on other test samples
than those that judge it, by the slope of leaky ReLU (0 is ReLU, 1 a linear network).

"""
        + leak_rate(results)
        + """
![lowest test error by leak and noise rate](leak_rate_phase_best_test_error_fresh.png)

## Which signal tells mislabelled samples

`experiment=selection_signals` (ours; [studies](studies.md) has the figure and what it says), by x = n SNR^2 (1 - 2 tau):

"""
        + selection_signals(results)
    )
