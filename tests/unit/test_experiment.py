"""The experiment's plan and its table: equal sizes, own seeds, and nothing averaged that is not there."""

from dataclasses import replace

import pytest

from hyperface import config as configuration
from hyperface.config import Config, flat
from hyperface.errors import ConfigError
from hyperface.experiment import comparison as experiment


def config(*overrides: str) -> Config:
    return configuration.load("jobs/configs/toy_experiment.yaml", ["run.dir=somewhere", *overrides])


def test_each_gallery_has_the_unpacked_baseline_every_alpha_and_every_objective():
    given = ("experiment.alphas=[0,1]", "experiment.steps=[5,9]", "experiment.objectives=[nearest]")
    arms = experiment.arms(config(*given))
    names = [arm.name for arm in arms]
    assert names[:2] == ["rendered", "uniform"]
    for gallery in ("diverse", "biased"):
        own = [name.removeprefix(f"{gallery}-") for name in names if name.startswith(gallery)]
        packed = [f"alpha-{alpha}-steps-{steps}" for steps in (5, 9) for alpha in (0, 1)]
        assert own == ["unpacked", *packed, "nearest"]
    assert len(set(names)) == len(names)


def test_arms_differ_in_how_identities_are_chosen_and_in_nothing_else():
    base = config()
    pieces = [piece for piece in experiment.pieces(base) if piece.repeat == 0]
    made = [flat(experiment.piece_config(base, piece, "there")) for piece in pieces]
    differing = {key for other in made for key in other if other[key] != made[0][key]}
    assert differing <= {f"packing.{key}" for key in ("start", "alpha", "steps", "separation")} | {
        "embed.identity_spread"
    }


SIDE_BY_SIDE = ("experiment.samples=[rejection,pca]", "experiment.generators=[vec2face]", "experiment.mixture=true")
SIDE_BY_SIDE += ("experiment.steps=[20]", "experiment.alphas=[0.5]", "experiment.objectives=[]")
SIDE_BY_SIDE += ("vec2face.path=there", f"vec2face.sha256={'5e' * 32}", "vec2face.size=small")


def test_each_way_to_choose_identities_is_drawn_by_each_generator_and_half_of_two_is_mixed():
    arms = {arm.name: arm for arm in experiment.arms(config(*SIDE_BY_SIDE))}
    without = ["uniform", "rejection"]
    with_one = ["unpacked", "alpha-0.5-steps-20", "pca"]
    expected = ["rendered", *without, *(f"{way}-vec2face" for way in without)]
    for gallery in ("diverse", "biased"):
        own = [f"{gallery}-{way}" for way in with_one]
        expected += [*own, *(f"{name}-vec2face" for name in own), f"{gallery}-mixture"]
    assert list(arms) == expected
    sampled = arms["biased-pca-vec2face"].parts[0]
    assert (sampled.packing.start, sampled.packing.steps, sampled.packing.alpha) == ("pca", 0, 0.0)
    assert (sampled.generator, arms["biased-pca-vec2face"].generator) == ("vec2face", "vec2face")
    assert arms["diverse-mixture"].generator == "toy_render + vec2face"
    kinds = {arms[name].kind for name in ("uniform", "diverse-unpacked-vec2face")}
    assert (kinds, arms["diverse-pca"].kind, arms["rejection"].kind) == ({"baseline"}, "vec2face", "vec2face")
    assert arms["diverse-alpha-0.5-steps-20"].kind == "hyperface"


def test_the_parts_of_a_mixture_have_all_its_identities_and_none_twice():
    base = config(*SIDE_BY_SIDE, "packing.num_identities=7", "packing.first_identity=100", "packing.steps=20")
    piece = next(p for p in experiment.pieces(base) if p.arm.name == "biased-mixture")
    own = experiment.piece_config(base, piece, "there")
    parts = experiment.part_configs(own, piece.arm)
    numbers = [range(p.packing.first_identity, p.packing.first_identity + p.packing.num_identities) for p in parts]
    assert sorted(number for part in numbers for number in part) == list(range(100, 107))
    assert [p.run.dir for p in parts] == ["there/part-0", "there/part-1"]
    assert [(p.packing.start, p.packing.steps, p.synthesis.generator) for p in parts] == [
        ("gallery", 20, "toy_render"),
        ("pca", 0, "vec2face"),
    ]
    assert {p.embed.identity_spread for p in parts} == {base.experiment.biased_spread}
    assert {p.run.seed for p in parts} == {own.run.seed}


def test_what_a_comparison_of_generators_needs_is_asked_for_at_once():
    with pytest.raises(ConfigError, match=r"vec2face.path is required"):
        config("experiment.generators=[vec2face]")
    with pytest.raises(ConfigError, match=r"experiment.mixture needs a generator besides .*\[vec2face\]"):
        config("experiment.mixture=true", "experiment.generators=[toy_render]")


def test_repeats_have_seeds_of_their_own_for_dataset_and_student():
    base = config("experiment.seeds=4")
    pieces = [piece for piece in experiment.pieces(base) if piece.arm.name == "uniform"]
    made = [experiment.piece_config(base, piece, piece.folder) for piece in pieces]
    assert len({c.run.seed for c in made}) == len({c.train.seed for c in made}) == 4
    assert len({c.run.dir for c in made}) == 4


def test_whole_repeats_come_before_the_next_one_begins():
    order = [piece.repeat for piece in experiment.pieces(config("experiment.seeds=3"))]
    assert order == sorted(order)


def result(arm: str, repeat: int, accuracy: float, eer: float | None = 0.1) -> dict[str, object]:
    return {"arm": arm, "repeat": repeat, "accuracy": {"easy": accuracy}, "identity": {"equal_error_rate": eer}}


def test_the_table_has_mean_and_sample_deviation_in_the_order_of_the_arms():
    arms = experiment.arms(config())
    results = [result("biased-unpacked", 0, 0.7), result("rendered", 0, 0.9), result("biased-unpacked", 1, 0.8)]
    rows = experiment.table(arms, results)
    assert [row["arm"] for row in rows] == ["rendered", "biased-unpacked"]
    spread = rows[1]["accuracy"]["easy"]
    assert spread["mean"] == pytest.approx(0.75)
    assert spread["deviation"] == pytest.approx(0.0707107)
    assert rows[0]["accuracy"]["easy"]["deviation"] is None
    assert rows[1]["repeats"] == 2


def test_a_number_that_is_missing_in_a_repeat_has_no_mean():
    arms = experiment.arms(config())
    rows = experiment.table(arms, [result("rendered", 0, 0.9), result("rendered", 1, 0.9, eer=None)])
    assert rows[0]["identity"]["equal_error_rate"]["mean"] is None


def test_the_lines_show_percent_and_deviation():
    arms = experiment.arms(config())
    lines = experiment.lines(experiment.table(arms, [result("uniform", r, 0.8 + 0.02 * r) for r in range(2)]))
    assert lines[1].split() == ["-", "uniform", "on", "the", "sphere", "toy_render", "81.00", "±", "1.41"]


def test_a_piece_runs_in_one_process_whatever_the_configuration_asks_for():
    base = config()
    base = replace(base, packing=replace(base.packing, num_workers=4), train=replace(base.train, num_workers=2))
    made = experiment.piece_config(base, experiment.pieces(base)[3], "there")
    assert (made.packing.num_workers, made.train.num_workers) == (1, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("packing.num_identities=3",), "mixture.*half HyperFace.*packing.num_identities must be at least 2"),
        (("packing.num_identities=300", "packing.batch_identities=200"), "mixture.*packing.batch_identities must"),
        (
            ("synthesis.generator=toy_diffusion", "experiment.generators=[toy_render]", "control.targets.yaw=[10]"),
            "toy_render.*synthesis.generator must be toy_diffusion or vec2face",
        ),
        (("experiment.generators=[arc2face]",), "(?s)arc2face.*arc2face.path is required"),
    ],
)
def test_an_arm_that_could_not_be_made_is_refused_by_its_name_at_once(given: tuple[str, ...], said: str):
    with pytest.raises(ConfigError, match=said):
        experiment.check(config(*SIDE_BY_SIDE, *given))


def test_the_run_of_a_piece_is_a_whole_configuration_of_its_own():
    base = config(*SIDE_BY_SIDE)
    experiment.check(base)
    for piece in experiment.pieces(base):
        configuration.check(experiment.piece_config(base, piece, "there"))
