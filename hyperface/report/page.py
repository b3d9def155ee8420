"""Records to one self-contained HTML page: no script, no request; equal records give equal bytes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hyperface.report import audit, figures, verification
from hyperface.report import elements as e
from hyperface.report.plots import occupied_range
from hyperface.report.records import STAGES, Records
from hyperface.report.shell import document, provenance
from hyperface.run.names import FACES, INDEX, PACKING_SUMMARY, PROVENANCE, SEPARATION, record_name
from hyperface.run.shapes import Distribution, FacePair, FaceRow, Images, PackingSummary

Measures = list[tuple[str, str, Distribution]]
"""Of a table: (cosine of what, by whom, its distribution)."""


def render(r: Records) -> str:
    """The whole page."""
    name = r.directory.rstrip("/").rsplit("/", 1)[-1]
    later = [part for part in (verification.section(r.verification), audit.sections(r)) if part]
    steered = [_control(r)] if "control" in r.index else []
    body = "\n".join((_faces(r), *steered, _images(r), *later, _packing(r), _counts(r), _provenance(r)))
    return document(f"{name}: HyperFace run report", _header(r, name), body)


def _header(r: Records, name: str) -> str:
    rejects, steps = len(r.index["rejects"]), r.packing_summary["steps"]
    left_out = f"{e.count(rejects)} more did not pass the quality gate." if rejects else "None was rejected."
    where = (
        f"were spread over the recogniser’s hypersphere by {e.count(steps)} packing steps"
        if steps
        else "are those of gallery faces, not spread by any packing step,"
    )
    return f"""<p class="eyebrow">HyperFace run report</p>
<h1>{e.text(name)}</h1>
<p class="lead">{e.count(r.index["images"])} synthetic face images of {e.count(_pictured(r))} identities. The identities
{where} and drawn by <code>{e.text(r.config.synthesis.generator)}</code>. {left_out}</p>
<p class="path">{e.text(r.directory)}</p>
<dl class="tiles">
{"".join(_tiles(r))}
</dl>"""


def _pictured(r: Records) -> int:
    """Identities with at least one image."""
    without = sum(rejects == r.index["images_per_identity"] for rejects in r.index["shortfall"].values())
    return r.index["identities"] - without


def _tiles(r: Records) -> Iterator[str]:
    index, images = r.index, r.separation["images"]
    before, after = (r.separation["references"][when]["pairs"]["most"] for when in ("before", "after"))
    by, judged = _best_judge(r)
    planned = f"of {e.count(index['planned_images'])} planned · {e.record(INDEX)}"
    packed = f"of {e.count(index['identities'])} references packed · {e.record(INDEX)}"
    yield e.tile("Identities with images", e.count(_pictured(r)), packed)
    yield e.tile("Images", e.count(index["images"]), planned)
    draws = f"after {e.count(index['redraws'])} redraws · {e.record(INDEX)}"
    yield e.tile("Rejected images", e.count(len(index["rejects"])), draws)
    change = f'<span class="was">{e.cosine(before, 2)} →</span> {e.cosine(after, 2)}'
    yield e.tile("Closest pair of references, cosine", change, f"before and after packing · {e.record(SEPARATION)}")
    guide = f"mean, by the recogniser that guided the generator · {e.record(INDEX)}"
    yield e.tile("Image to its reference, cosine", e.cosine(index["mean_cosine"], 2), guide)
    intra, inter = (found and found["mean"] for found in (judged["intra"], judged["inter"]))
    apart = f"{e.cosine(intra, 2)} <small>and</small> {e.cosine(inter, 2)}"
    source = f"mean, by {by}, {e.count(images['count'])} images · {e.record(SEPARATION)}"
    yield e.tile("Same and different identity, cosine", apart, source)
    synthesis = r.seconds("synthesis")
    speed = f"{index['images'] / synthesis:,.1f} <small>per s</small>" if synthesis else "not recorded"
    yield e.tile("Images drawn", speed, f"whole synthesis stage · {e.record(record_name('synthesis'))}")
    spent = [s for stage in STAGES if (s := r.seconds(stage)) is not None]
    yield e.tile("Time", e.duration(sum(spent) if spent else None), 'sum of the stages · <a href="#time">table</a>')


def _best_judge(r: Records) -> tuple[str, Images]:
    """(who measured, what it found): the independent judge where there is one."""
    images = r.separation["images"]
    if images["by_judge"]:
        return "the independent judge", images["by_judge"]
    return "the recogniser itself", images["by_recognizer"]


def _faces(r: Records) -> str:
    columns = r.config.report.grid_images
    by, _ = _best_judge(r)
    wanted = min(columns, r.config.synthesis.images_per_identity)
    rows = "\n".join(_identity(row, wanted) for row in r.faces["grid"])
    alike = "\n".join(_alike(pair) for pair in r.faces["closest"])
    return f"""<section>
<h2>Faces</h2>
<p>Each row is one identity, each column one image of it, as stored. The identities are spread evenly over the dataset,
not chosen. The cosine to the reference is the recogniser’s; the cosine between images of the identity is measured by
{by}. Record: {e.record(FACES)}.</p>
<div class="grid">
{rows}
</div>
</section>
<section>
<h2>Most alike pairs of different identities</h2>
<p>Out of all pairs of different identities among {e.count(r.separation["images"]["count"])} images, those with the
highest cosine by {by}; no identity is shown twice. If these look like one person, identities have collapsed.</p>
<div class="alike">
{alike}
</div>
</section>"""


def _identity(row: FaceRow, wanted: int) -> str:
    by_number = {int(image["key"].split("-")[1]): image for image in row["images"]}
    cells = [
        e.face(by_number[i]) if i in by_number else '<div class="face missing">rejected</div>' for i in range(wanted)
    ]
    return (
        f'<figure class="identity"><figcaption><b>Identity {row["identity"]}</b> '
        f"to reference {e.cosine(row['mean_cosine'], 2)},<br> between images {e.cosine(row['same_identity'], 2)}"
        f'</figcaption><div class="faces">{"".join(cells)}</div></figure>'
    )


def _alike(pair: FacePair) -> str:
    first, second = (int(image["key"].split("-")[0]) for image in pair["images"])
    faces = "".join(e.face(image) for image in pair["images"])
    return (
        f'<figure><div class="faces">{faces}</div>'
        f"<figcaption><b>cosine {e.cosine(pair['cosine'], 2)}</b><br>identities {first} and {second}</figcaption>"
        "</figure>"
    )


def _control(r: Records) -> str:
    """What came of steering the images to attributes."""
    control, rows = r.config.control, []
    for name, found in r.index.get("control", {}).items():
        wanted = found["met"] + found["not_met"]
        shares = control.shares.get(name, [])
        targets = ", ".join(f"{value:g}" for value in control.targets.get(name, ()))
        dealt = ", ".join(f"{100 * share:g} %" for share in shares) or "equal"
        counts = [e.count(wanted), e.count(found["met"]), e.percent(found["met"] / wanted if wanted else None, 1)]
        rows.append([e.text(name), e.text(targets), e.text(dealt), *counts])
    head = ["Attribute", "Targets", "Shares", "Images with a target", "Met", "Percent"]
    return f"""<section>
<h2>Were the attributes met?</h2>
<p>Embeddings were moved, in at most {e.count(control.steps)} steps each, until a reader of attributes sees the target
in the image. It is that reader’s own word on the images as they are stored: a network that guided the generator
overrates what it guided. Steps and the reading of each image are in its row of the shards.</p>
{e.table("Attribute control", f"Record: {e.record(INDEX)}", head, rows, range(3, 6))}
</section>"""


def _images(r: Records) -> str:
    images = r.separation["images"]
    judges = [("recogniser", images["by_recognizer"])]
    judges += [("independent judge", images["by_judge"])] if images["by_judge"] else []
    counts = [found["histogram"] for _, of in judges for found in (of["intra"], of["inter"]) if found]
    shared = occupied_range(counts) if counts else (-1.0, 1.0)
    plots = [figures.intra_inter(by, found, shared) for by, found in reversed(judges)]
    plots += [figures.to_reference(r), figures.nearest_other(judges)]
    independent = (
        "The judge is another network, of another architecture and trained on other identities; nothing was ever "
        "trained against it."
        if images["by_judge"]
        else "There is no independent judge for this recogniser, so read every number here as an upper bound."
    )
    return f"""<section>
<h2>Do the images keep their identities?</h2>
<p>{e.count(images["count"])} stored images of {e.count(images["by_recognizer"]["identities"])} identities were read
back and embedded again. A cosine measured by the recogniser that guided the generator proves little. {independent}</p>
<div class="plots">
{"".join(plots)}
</div>
{_separation_table(r, judges)}
</section>"""


def _separation_table(r: Records, judges: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    kinds = (
        ("intra", "Two images of one identity"),
        ("inter", "Two images of different identities"),
        ("nearest_other", "Image to the nearest image of another identity"),
        ("to_centre", "Image to the mean of its identity’s other images"),
    )
    measures: Measures = [("Image to its reference", "recogniser", r.separation["images"]["to_reference"])]
    measures += [(label, by, found[key]) for key, label in kinds for by, found in judges if found[key]]
    return _distribution_table("Cosines of stored images", measures)


def _distribution_table(caption: str, measures: Measures) -> str:
    rows = [
        [e.text(label), e.text(by), e.count(d["count"]), *(e.cosine(value) for value in _summary(d))]
        for label, by, d in measures
    ]
    head = ["Cosine of", "By", "Counted", "Lowest", "1 %", "Mean", "Median", "99 %", "Highest"]
    return e.table(caption, f"Quantiles to 0.0001. Record: {e.record(SEPARATION)}", head, rows, range(2, 9))


def _summary(d: Distribution) -> list[float]:
    q = d["quantiles"]
    return [d["least"], q["0.01"], d["mean"], q["0.5"], q["0.99"], d["most"]]


def _packing(r: Records) -> str:
    references, summary = r.separation["references"], r.packing_summary
    plots = [figures.convergence(r)] if r.packing_steps else []
    plots += [figures.before_and_after(references, kind) for kind in ("nearest", "pairs")]
    plots.append(figures.to_gallery(references["to_gallery"]))
    before, after = references["before"], references["after"]
    measures = [
        (label, f"embeddings, {when} packing", found)
        for label, both in (
            ("Two references", (before["pairs"], after["pairs"])),
            ("Reference to its nearest other", (before["nearest"], after["nearest"])),
        )
        for when, found in zip(("before", "after"), both, strict=True)
    ]
    measures.append(("Reference to the nearest gallery face", "embeddings, after packing", references["to_gallery"]))
    return f"""<section>
<h2>Packing the identities</h2>
<p>Before packing, a reference is {_START[r.config.packing.start]}. Packing moves the references apart while keeping
them near the gallery. These are embeddings only: whether images realise the distance is answered above. After packing
the mean cosine to the nearest gallery face is {e.cosine(summary.get("mean_gallery_cosine"))}. {_certificate(summary)}
Record: {e.record(PACKING_SUMMARY)}.</p>
<div class="plots">
{"".join(plots)}
</div>
{_distribution_table("Cosines of references", measures)}
</section>"""


_START = {
    "gallery": "the embedding of a gallery face",
    "random": "a random point of the sphere",
    "algebraic": "a point of an algebraic code",
    "rejection": "a random point of the sphere, drawn so that no two were near each other",
    "pca": "the direction of a feature drawn from a normal distribution fitted to the gallery, no two near each other",
}


def _certificate(summary: PackingSummary) -> str:
    """How good the packing is, exactly, and how much better it could be."""
    said = [
        f"The closest pair has cosine {e.cosine(summary['max_cosine'])}, exact over all pairs; no arrangement of so "
        f"many points has one below {e.cosine(summary['bound_cosine'])}: the smallest angle is "
        f"{summary['bound_angle_share']:.1%} of the largest that this bound allows."
    ]
    if summary["frozen"] is not None:
        said.append(
            f"These {e.count(summary['num_identities'])} identities were added to {e.count(summary['frozen']['rows'])} "
            f"existing ones, which stayed as they are and whose own closest pair has cosine "
            f"{e.cosine(summary['max_cosine_within_frozen'])}. The closest pair and the bound count both; the plots "
            f"and the table below show the new ones among themselves."
        )
    if summary["protected"] is not None:
        said.append(
            f"No reference comes closer than {e.cosine(summary['max_protected_cosine'])} to one of the "
            f"{e.count(summary['protected']['rows'])} protected embeddings. Images scatter around their reference, as "
            f"measured above, and are not held to that."
        )
    if summary["max_protected_cosine_of_frozen"] is not None:
        said.append(f"Existing identities come as close as {e.cosine(summary['max_protected_cosine_of_frozen'])}.")
    return " ".join(said)


def _counts(r: Records) -> str:
    index = r.index
    short = len(index["shortfall"])
    files = sum(len(shard["files"]) for shard in index["shards"])
    first = r.config.packing.first_identity
    rows = [
        ("Identities", e.count(index["identities"])),
        ("Numbers of the identities", f"{first} to {first + index['identities'] - 1}"),
        ("Identities with fewer images than planned", e.count(short)),
        ("Images planned", e.count(index["planned_images"])),
        ("Images stored", e.count(index["images"])),
        ("Images rejected", e.count(len(index["rejects"]))),
        ("Draws of the generator", e.count(index["draws"])),
        *((f"Draws refused: {reason}", e.count(count)) for reason, count in sorted(index["refused"].items())),
        *(
            [("Near-duplicates", e.count(len(index.get("duplicates", ()))))]
            if r.config.synthesis.min_hash_distance
            else []
        ),
        ("Shards", e.count(len(index["shards"]))),
        ("Files", f"{e.count(files)} ({e.text(', '.join(index['formats']))})"),
        ("Size", e.size(index["bytes"])),
    ]
    counts = e.table("Counts", f"Record: {e.record(INDEX)}", ["What", "Number"], rows, [1])
    return f"""<section id="time">
<h2>What was made, and how long it took</h2>
<div class="pair">
{counts}
{_timings(r)}
</div>
</section>"""


def _timings(r: Records) -> str:
    steps = r.packing_summary["steps"]
    amounts = {
        "embed": (sum(row.get("faces", 0) for row in r.finished["embed"]), "faces"),
        "packing": (steps, "steps"),
        "synthesis": (r.index["images"], "images"),
        "report": (sum(row.get("images", 0) for row in r.finished["report"]), "images"),
    }
    known = [s for stage in STAGES if (s := r.seconds(stage)) is not None]
    longest = max(known, default=0.0) or 1.0
    rows = []
    for stage in STAGES:
        seconds, (amount, unit) = r.seconds(stage), amounts[stage]
        bar = f'<span class="bar" style="width:{100 * (seconds or 0) / longest:.1f}%"></span>'
        source = PACKING_SUMMARY if stage == "packing" else record_name(stage)
        rows.append([e.record(source, stage), bar, e.duration(seconds), e.rate(amount, seconds, unit)])
    rows.append(["Sum", "", e.duration(sum(known) if known else None), ""])
    note = "Wall time by the record behind each name; packing: of its steps. The start of the cluster is not included."
    return e.table("Time", note, ["Stage", "", "Time", "Rate"], rows, [2, 3])


def _provenance(r: Records) -> str:
    asked = r.separation["asked"]
    networks = [("Recogniser", asked["recognizer"]), ("Judge", asked["judge"] or "none")]
    more = [(f"{name}, SHA-256", f"<code>{e.text(sha256)}</code>") for name, sha256 in networks]
    return provenance(r.provenance, more, f"Records: {e.record(PROVENANCE)}, {e.record(SEPARATION)}", r.config_yaml)
