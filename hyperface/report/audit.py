"""What the audit found: how many identities there are, and whether faces copy real ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperface.audit.summary import over_strangers
from hyperface.dataset.export.measured import NETWORKS, by_network
from hyperface.report import attributes
from hyperface.report import elements as e
from hyperface.report.plots import Histogram, Rule, histograms, occupied_range
from hyperface.report.records import Records
from hyperface.run.audit_shapes import Audit, AuditFaces
from hyperface.run.names import AUDIT, AUDIT_FACES

PAIRS_SHOWN = 8
"""Pairs of faces that are on the page at once; the others unfold."""

Record = Mapping[str, Any]


def sections(r: Records) -> str:
    """The sections; empty without an audit."""
    found, faces = r.audit, r.audit_faces
    if found is None or faces is None:
        return ""
    parts = [_identities(found, _alike_identities(faces), is_audited=r.is_audited)]
    parts += [_leakage(found["leakage"], _alike_faces(faces))] if found["leakage"] else []
    parts += [attributes.section(found["attributes"], NETWORKS)] if found["attributes"] else []
    return "\n".join(parts)


def _identities(found: Audit, alike: str, *, is_audited: bool) -> str:
    networks = found["networks"]
    (first, best), *_ = by_network(networks)
    prove = "The recogniser guided the generator, so its cosines prove little"
    whose = f"{prove}; the {NETWORKS[first]}’s come first." if first == "judge" else f"{prove}, and nobody else looked."
    now = "" if is_audited else " <b>The dataset has changed since: run jobs.audit again.</b>"
    counts = [d["histogram"] for n in networks.values() for k in ("intra", "inter") if (d := n[k])]
    centres = [d["histogram"] for n in networks.values() if (d := n["nearest_centre"])]
    plots = [
        _pairs(name, of, occupied_range(counts)) for name, of in by_network(networks) if of["intra"] or of["inter"]
    ]
    plots += [_centres(name, of, occupied_range(centres)) for name, of in by_network(networks) if of["nearest_centre"]]
    return f"""<section>
<h2>Audit: how many identities are there?</h2>
<p>{e.count(best["images"])} images were embedded and compared, each with every other one. {whose}
Record: {e.record(AUDIT)}.{now}</p>
{_list("Not measured", found["not_measured"])}
{_list("To be read with the numbers", found["notes"])}
{_identities_table(networks)}
<div class="plots">
{"".join(plots)}
</div>
<h3 class="apart">Most alike identities</h3>
<p>By the cosine of their centres, no identity twice; of each its first image. If two look like one person, a student is
told that one person is two. Record: {e.record(AUDIT_FACES)}.</p>
{alike}
</section>"""


def _list(heading: str, notes: Sequence[Any]) -> str:
    if not notes:
        return ""
    rows = "".join(f"<li>{e.text(note)}</li>" for note in notes)
    return f'<div class="notes"><h3>{heading}</h3><ul>{rows}</ul></div>'


def _identities_table(networks: Record) -> str:
    rows = []
    for name, of in by_network(networks):
        calibrated, equal = of["calibrated"], of["equal_error"]
        at = f"FAR {e.far(calibrated['false_accept_rate'])}"
        if of["at_calibrated"]:
            rows.append([e.text(NETWORKS[name]), e.text(f"{at} of {calibrated['table']}"), *_at(of["at_calibrated"])])
        else:
            reason = calibrated["reason"] or "not measurable"
            rows.append([e.text(NETWORKS[name]), f"{at}: {e.text(reason)}", *[e.NONE] * 5])
        if of["at_equal_error"]:
            label = f"equal error, {e.percent(equal['rate'])} %"
            rows.append([e.text(NETWORKS[name]), label, *_at(of["at_equal_error"])])
    head = ["By", "At the threshold of", "Cosine", "Effective identities", "Separable", "Same, below"]
    note = (
        "Effective: one after the other, an identity counts unless its centre reaches the threshold with one counted "
        "before. Separable: share with no other identity at the threshold. Centres are averages, nearer to each other "
        "than images are, so both are cautious. Same, below and different, above: shares of pairs of images of one "
        f"identity, and of two, that the threshold judges wrongly. Record: {e.record(AUDIT)}"
    )
    return e.table("Identities at a threshold", note, [*head, "Different, above"], rows, range(2, 7))


def _at(found: Record) -> list[str]:
    of = f"{e.count(found['effective_identities'])} of {e.count(found['identities'])}"
    below = e.NONE if found["genuine_below"] is None else _share(found["genuine_below"])
    return [e.cosine(found["cosine"]), of, _share(found["separable"]), below, _share(found["impostors_over"])]


def _share(value: float) -> str:
    """Percent; so small that two decimals would say 0: in powers of ten."""
    return f"{value:.1e}" if 0 < value < 5e-5 else f"{e.percent(value)} %"


def _threshold_rule(threshold: Record) -> Rule | None:
    if threshold["cosine"] is None:
        return None
    return Rule(f"FAR {e.far(threshold['false_accept_rate'])} at", threshold["cosine"])


def _widened(shown: tuple[float, float], rule: Rule | None) -> tuple[float, float]:
    """So that the rule is inside."""
    return shown if rule is None else (min(shown[0], rule.value - 0.05), max(shown[1], rule.value + 0.05))


def _pairs(name: str, of: Record, shown: tuple[float, float]) -> str:
    kinds = (("intra", "same identity", "tone-a"), ("inter", "different identities", "tone-b"))
    series = [Histogram(label, tone, d["histogram"], d["mean"]) for kind, label, tone in kinds if (d := of[kind])]
    numbers = "; ".join(f"{s.label}: mean cosine {s.mean:.3f}" for s in series)
    rule = _threshold_rule(of["calibrated"])
    title = f"Cosines between all images by the {NETWORKS[name]}. {numbers}"
    svg = histograms(title, series, "pairs", rule, _widened(shown, rule))
    caption = f"{e.count(sum(sum(s.counts) for s in series))} pairs of images. Record: {e.record(AUDIT)}."
    return e.figure(f"All pairs of images, by the {NETWORKS[name]}", svg, caption)


def _centres(name: str, of: Record, shown: tuple[float, float]) -> str:
    found, rule = of["nearest_centre"], _threshold_rule(of["calibrated"])
    series = [Histogram("to the nearest other", "tone-c", found["histogram"], found["mean"])]
    title = f"Cosine of each identity to its nearest other by the {NETWORKS[name]}, mean {found['mean']:.3f}"
    svg = histograms(title, series, "identities", rule, _widened(shown, rule))
    over = "An identity at or above the threshold looks like another one. " if rule else ""
    caption = f"Centres of {e.count(found['count'])} identities. {over}Record: {e.record(AUDIT)}."
    return e.figure(f"Identity to its nearest other, by the {NETWORKS[name]}", svg, caption)


def _unfolding(pairs: Sequence[tuple[str, list[str]]]) -> str:
    """The most alike pairs of the first network; the rest, and those of others, to be unfolded."""
    parts = []
    for row, (name, figures) in enumerate(pairs):
        shown, rest = (figures[:PAIRS_SHOWN], figures[PAIRS_SHOWN:]) if row == 0 else ([], figures)
        if shown:
            parts.append(f'<div class="alike">{"".join(shown)}</div>')
        if rest:
            label = f"{len(rest)} {'more' if shown else 'pairs'}, by the {NETWORKS[name]}"
            parts.append(f'<details><summary>{label}</summary><div class="alike">{"".join(rest)}</div></details>')
    return "\n".join(parts)


def _two_identities(pair: Record) -> str:
    first, second = (str(image["key"]) for image in pair["images"])
    said = f"identities {int(first.split('-')[0])} and {int(second.split('-')[0])}"
    return _pair(pair, [e.place(first), e.place(second)], said)


def _image_and_face(pair: Record) -> str:
    synthetic, real = (str(image["key"]) for image in pair["images"])
    said = f"{e.place(synthetic).lower()}<br>real: {e.text(real)}"
    return _pair(pair, [f"{e.place(synthetic)}, synthetic", f"Real face {real}"], said)


def _pair(pair: Record, names: Sequence[str], said: str) -> str:
    faces = "".join(e.picture(image["jpeg"], name) for image, name in zip(pair["images"], names, strict=True))
    return (
        f'<figure><div class="faces">{faces}</div>'
        f"<figcaption><b>cosine {e.cosine(pair['cosine'], 2)}</b><br>{said}</figcaption></figure>"
    )


_MOST_ALIKE = f"""<p>Left the synthetic image, right the real face nearest to it; one pair for an identity, most alike
first. Whether they show one person is for you to see: a cosine is no proof. Record: {e.record(AUDIT_FACES)}.</p>"""


def _alike_identities(faces: AuditFaces) -> str:
    found = by_network(faces["nearest_identities"])
    return _unfolding([(name, [_two_identities(pair) for pair in pairs]) for name, pairs in found])


def _alike_faces(faces: AuditFaces) -> str:
    parts: list[str] = []
    for table, networks in faces["leakage"].items():
        pairs = [(name, [_image_and_face(pair) for pair in of]) for name, of in by_network(networks) if of]
        if not pairs:  # audit.top_pairs=0
            continue
        told = "" if parts else _MOST_ALIKE
        parts.append(f'<h3 class="apart">Most alike to {e.text(_table_name(table))}</h3>\n{told}{_unfolding(pairs)}')
    return "\n".join(parts)


def _leakage(leaks: Record, shown: str) -> str:
    every = [(table, name, of) for table, networks in leaks.items() for name, of in by_network(networks)]
    return f"""<section>
<h2>Audit: does a face copy a real one?</h2>
<p>Every image was compared with every real face that is known. The threshold is the cosine that pairs of two different
real people reach at the false accept rate (FAR). A pair over it is not yet a copy: by chance strangers reach it, too,
and how many is said beside each count. Nor do shares of the images tell of a few copies among many: so see the nearest
pair of all, and how many images are as near to a real face as planted copies are. None of this is proof by its absence:
see how many of the planted copies were found.</p>
{_leakage_table(every)}
<div class="plots">
{"".join(_nearest(table, name, of) for table, name, of in every)}
</div>
{shown}
</section>"""


def _table_name(table: str) -> str:
    return {"gallery": "the gallery", "packing.protected": "protected people"}.get(table, table)


def _leakage_table(every: Sequence[tuple[str, str, Record]]) -> str:
    head = ["Real faces", "By", "Threshold", "Pairs over it", "By chance", "Images over it", "Strangers over it"]
    rows = []
    for table, name, of in every:
        images, limit = of["images"], of["threshold"]["cosine"]
        size = f"{e.count(of['faces'])} faces, {e.count(of['people'])} people"
        if limit is None:
            counts = [f"<small>{e.text(of['threshold']['reason'])}</small>", *[e.NONE] * 5]
        else:
            counts = [
                e.cosine(limit) + _borrowed(table, of["threshold"]),
                e.count(images["pairs_over"]),
                _expected(images["pairs_expected"]),
                f"{_share(images['share_over'])}<small>of {e.count(images['nearest']['count'])}</small>",
                e.NONE if of["real"]["share_over"] is None else _share(of["real"]["share_over"]),
                e.count(images["identities_over"]),
            ]
        real = f"{e.text(_table_name(table))}<small>{size}</small>"
        rows.append([real, e.text(NETWORKS[name]), *counts, _found(of["control"])])
    note = (
        "By chance: pairs that the FAR gives for as many pairs of strangers. Strangers: the real faces themselves, "
        "each with its nearest other person. Copies found: of real faces that were planted as if they were synthetic, "
        "those over the threshold whose nearest real face is of the person who was copied. "
        f"Record: {e.record(AUDIT)}"
    )
    return e.table("Over the threshold", note, [*head, "Identities over it", "Copies found"], rows, range(2, 9))


def _borrowed(table: str, threshold: Record) -> str:
    return "" if threshold["table"] == table else f"<small>of {e.text(_table_name(threshold['table']))}</small>"


def _expected(pairs: float) -> str:
    return f"{pairs:,.0f}" if pairs >= 10 else f"{pairs:.1f}"


def _found(control: Record) -> str:
    """What share of the planted copies was found; why there is none."""
    if not control["faces"]:
        return f"<small>{e.text(control['reason'])}</small>"
    if control["found"] is None:
        return f"<small>{e.text(control['reason'] or 'no threshold')}</small>"
    return f"{100 * control['found']:.0f} %<small>of {e.count(control['copies'])}</small>"


def _nearest(table: str, name: str, of: Record) -> str:
    images, real, rule = of["images"], of["real"], _threshold_rule(of["threshold"])
    both = (  # the yardstick first, so that it is behind what is measured
        ("real face to its nearest stranger", "tone-muted", real["nearest_other"]),
        ("image to the nearest real face", "tone-b", images["nearest"]),
    )
    series = [Histogram(label, tone, d["histogram"], d["mean"]) for label, tone, d in both if d]
    numbers = "; ".join(f"{s.label}: mean cosine {s.mean:.3f}" for s in series)
    shown = _widened(occupied_range([s.counts for s in series]), rule)
    called = _table_name(table)
    title = f"{called if called == table else called.capitalize()}, by the {NETWORKS[name]}"
    svg = histograms(f"{title}. {numbers}", series, "images, of faces", rule, shown)
    said = _over(of) + _planted(of["control"])
    return e.figure(title, svg, f"{said}Record: {e.record(AUDIT)}.")


def _over(of: Record) -> str:
    """What lies over the threshold, how near the nearest are, and how many are as near as copies: each beside what
    strangers give. That it is no more is said only where all of it agrees."""
    images, real, threshold, as_near = of["images"], of["real"], of["threshold"], of["as_near"]
    said = list[str]()
    if threshold["cosine"] is None:
        said.append(f"No threshold: {e.text(threshold['reason'])}.")
    else:
        pairs, chance, share = images["pairs_over"], images["pairs_expected"], images["share_over"]
        said.append(
            f"{e.count(pairs)} of {e.count(images['pairs']['count'])} pairs are over the threshold, where as many "
            f"pairs of strangers would give {_expected(chance)}. {_share(share)} of the images are in one"
        )
        if real["share_over"] is not None:
            said[-1] += f"; {_share(real['share_over'])} of the real faces are, with a stranger"
        said[-1] += "."
    nearest, strangers = images["nearest"], real["nearest_other"]
    said.append(f"The nearest image reaches cosine {e.cosine(nearest['most'])}.")
    if strangers is None:
        return " ".join(said) + " "
    said[-1] = said[-1].removesuffix(".") + f", the nearest two strangers {e.cosine(strangers['most'])}."
    if as_near is not None:
        said.append(
            f"{e.count(as_near['images'])} of {e.count(nearest['count'])} images are as near to a real face as planted "
            f"copies are (cosine {e.cosine(as_near['cosine'])}); {e.count(as_near['strangers'])} of "
            f"{e.count(strangers['count'])} real faces are, to a stranger."
        )
    more = over_strangers(of)
    if any(more):
        said.append(f"{'All' if all(more) else 'Some'} of this is more than strangers give: look at the pairs below.")
    elif threshold["cosine"] is not None:
        said.append("None of this is more than strangers give.")
    return " ".join(said) + " "


def _planted(control: Record) -> str:
    """The positive control in one sentence."""
    if not control["faces"]:
        return f"Planted copies: {e.text(control['reason'])}. "
    if control["found"] is None:
        return f"Planted copies: {e.text(control['reason'] or 'no threshold')}. "
    kinds = [f"{100 * kind['found']:.0f} % of the {which} ones" for which, kind in control["kinds"].items()]
    return (
        f"Of {e.count(control['copies'])} planted copies of {e.count(control['faces'])} real faces, moved by a pixel "
        f"or two and compressed, {100 * control['found']:.0f} % were found, over the threshold and nearest to their "
        f"own person: {e.text(' and '.join(kinds))}. "
    )
