"""The section `experiment`: the ways to make a dataset that are compared."""

from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import Rules, knob, number
from hyperface.config.synthesis import GeneratorKind


@dataclass(frozen=True)
class ExperimentConfig:
    seeds: int = knob(3, at_least=1)
    """Repeats, each with a gallery, a packing, images and a student of its own; more may be added later."""
    alphas: list[float] = knob([0.0, 0.5, 1.0])
    """Weights of the gallery term that are compared, each with each of `experiment.steps`."""
    steps: list[int] = knob([20, 400])
    """Numbers of packing steps that are compared."""
    objectives: list[Literal["closest_pair", "nearest", "logsumexp"]] = knob(["closest_pair"])
    """Other values of packing.separation that are compared, at packing.alpha and packing.steps."""
    samples: list[Literal["rejection", "pca"]] = knob([])
    """Samples of Vec2Face that are compared, with packing.start_cosine."""
    generators: list[GeneratorKind] = knob([])
    """Generators besides synthesis.generator by which each way to choose identities is drawn as well."""
    mixture: bool = knob(False)
    """Compare also half the identities by the packing and synthesis.generator with half by Vec2Face's sample `pca` and
    the last of experiment.generators that is another one."""
    biased_spread: float = number(0.3, above=0, at_most=1)
    """Share of each identity trait's range that the biased gallery is drawn from; the diverse one has all of it."""
    folds: int = knob(10, at_least=1)
    """Folds of each test set; fewer are drawn and verified sooner, and no experiment goes on with other test sets."""
    num_actors: int = knob(0, at_least=0)
    """Repeats of arms that are worked on at a time; 0: one per available CPU."""
    max_failures: int = knob(3, at_least=0)
    """Times a repeat is tried again after its actor died, before the job fails."""


def experiment_rules(e: ExperimentConfig, generator: str) -> Rules:
    several = all(alpha >= 0 for alpha in e.alphas) and len({f"{alpha:g}" for alpha in e.alphas}) == len(e.alphas)
    yield "experiment.alphas", several, "must be different numbers of at least 0, e.g. [0,0.5,1]"
    rule = "must be different numbers of at least 1, e.g. [20,400]"
    yield "experiment.steps", all(s >= 1 for s in e.steps) and len(set(e.steps)) == len(e.steps), rule
    yield "experiment.objectives", len(set(e.objectives)) == len(e.objectives), "must name each objective once"
    yield "experiment.samples", len(set(e.samples)) == len(e.samples), "must name each sample once"
    yield "experiment.generators", len(set(e.generators)) == len(e.generators), "must name each generator once"
    rule = "needs a generator besides synthesis.generator; set experiment.generators, e.g. [vec2face]"
    yield "experiment.mixture", not e.mixture or any(g != generator for g in e.generators), rule
