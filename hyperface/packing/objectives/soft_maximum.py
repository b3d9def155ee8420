"""A soft maximum of the cosines of all pairs, which cools from hot to cold.

N: rows of the step, L: own rows of this rank, D: embedding dimension.
"""

import torch
from torch import Tensor

from hyperface.packing.bounds import max_cosine_bound
from hyperface.packing.kernel import Nearest, SoftPairs, unpack
from hyperface.packing.objective import Against, Separated, Separation, Terms, look, sums
from hyperface.packing.partition import Partition

RATE = 70.0
"""Factor of the rate: steps are learning_rate * 70 * temperature in each coordinate.

Paper: a rate that hardly falls. Here: it cools with the temperature, because rows need to move less the finer the soft
maximum tells pairs apart; the factor makes the default of 0.01 right for it as well.
"""
CROWDED = 8
"""Number of points a dimension from which on steps have their full length."""
HOT, COLD, BEND = 0.6, 0.01, 1.8
"""First and last temperature, in units of 1 / sqrt(dim), and how the fall between them bends."""
CROWDED_COLD = 0.02
"""Last temperature at most, as a share of the cosine distance that the bound allows the closest pair."""
ALGEBRAIC_HOT, ALGEBRAIC_COLD = 0.12, 0.008
"""First and last temperature from an algebraic start, in units of 1 / sqrt(dim): what is nearly right already must not
be melted."""
BFLOAT16_COLDEST = 0.05
"""Coldest temperature for bfloat16, in units of 1 / sqrt(dim): below it, its rounding would decide which pairs are the
closest."""
LONGEST_STEP = 1.2 * 2 * RATE * 0.01
"""Bound on the growth of the largest cosine in a step, in units of temperature * sqrt(dim), at the default rate.

Two rows approach by at most the length of both their steps, and Adam's direction has at most 1.2 in each coordinate: by
Cauchy and Schwarz the root of sum_k (1 - b1)^2 b1^2k / ((1 - b2) b2^k) for the decays.
"""


class SoftMaximum(Separation):
    """The soft maximum tau log sum_{i<j} exp(cosine_ij / tau), one softmax over all pairs.

    It is never below the maximal cosine, and equal to it in the limit tau -> 0. The paper has the limit only.
    """

    betas = (0.8, 0.9)
    pulls_on_others = True

    def scales(self, dim: int) -> int:
        """Return 1: one scale a row does as well here, is small, and favours no axes."""
        return 1

    def terms(self, step: int, max_cosine: Tensor, dim: int) -> Terms:
        """The shift of the exponents is the largest cosine of the step before, and more where that could overflow."""
        tau, config = self.temperature(step, dim), self.config
        growth = LONGEST_STEP * (config.learning_rate / 0.01) * dim**0.5
        shift = None if self.looks == 2 else max_cosine + tau * min(40.0, max(0.0, growth - 60.0))
        return Terms(config.alpha, tau, shift, self.dtype(step, max_cosine.dtype, dim))

    @property
    def looks(self) -> int:
        """Return 2 for a random choice, of which the step before says nothing: a first look finds the shift of the
        exponents."""
        return 2 if self.config.batched else 1

    def dtype(self, step: int, exact: torch.dtype, dim: int) -> torch.dtype:
        """The coldest steps are always exact."""
        return exact if self.temperature(step, dim) < BFLOAT16_COLDEST * dim**-0.5 else super().dtype(step, exact, dim)

    def rate(self, step: int, points: int, dim: int) -> float:
        """Few points in many dimensions all push the same way, and overshoot: below 8 points a dimension the rate falls
        with their number, down to a tenth."""
        crowding = min(1.0, max(0.1, points / (CROWDED * dim)))
        return crowding * RATE * self.config.learning_rate * self.temperature(step, dim)

    def temperature(self, step: int, dim: int) -> float:
        """Return the temperature in cosines: from hot, where all pairs count, to cold, where the closest do.

        In units of 1 / sqrt(dim), the spread of the cosines of random points, one schedule serves every dimension. Only
        where points are so many that the closest must nearly touch, it has to end colder.
        """
        config = self.config
        share = step / max(1, config.steps - 1)
        hot, cold = (ALGEBRAIC_HOT, ALGEBRAIC_COLD) if config.start == "algebraic" else (HOT, COLD)
        room = 1 - max_cosine_bound(config.num_identities, dim)
        cold = min(cold, CROWDED_COLD * room * dim**0.5)
        return float(dim**-0.5 * hot * (cold / hot) ** (share**BEND))

    def of(self, own_LD: Tensor, partition: Partition, terms: Terms, against: Against) -> Separated:
        """Every pair pulls, by its weight in the softmax; what this rank saw of others' rows goes to their owners."""
        shift = terms.shift
        if shift is None:
            seen = Nearest(sum(partition.sizes), own_LD.device)
            look(seen.look, own_LD, partition, against)
            shift = unpack(partition.group.max(seen.packed_N))[0].max().to(sums(own_LD))
        pairs = SoftPairs(sum(partition.sizes), own_LD.shape[1], own_LD, shift, terms.tau)
        look(pairs.look, own_LD, partition, against)
        # A sum that is 0 has gradient 0: the shift was far off, and the next step's is right.
        total = partition.each(pairs.total).sum().clamp_min(torch.finfo(pairs.total.dtype).tiny)
        gradient_LD = partition.group.sum(pairs.pull_ND, partition.sizes).div_(total)
        return Separated(pairs.shift + terms.tau * total.log(), gradient_LD, partition.group.max(pairs.cosine_N))
