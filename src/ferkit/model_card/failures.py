"""What the figures in a card say that a model does badly, and on degraded faces."""

from collections.abc import Iterator

from ferkit.model_card.words import Entries, code, entries, interval, joined, percent, plain, points, split, table

# Figures of a class with fewer faces say more about these faces than about the class.
_FEW = 100
# How many of the worst classes and degradations are named.
_WORST = 3
# States so much more confidence than accuracy that it does not notice how bad a picture is.
_UNNOTICED = 0.1
_NEEDED = ("split", "n", "clean", "mean_accuracy", "relative_accuracy", "relative_accuracy_ci95", "degradations")


def robustness_of(card: Entries) -> Entries:
    """What the card says about degraded faces; empty where it does not say all of it."""
    found = entries(card, "robustness")
    return found if all(name in found for name in _NEEDED) else {}


def degraded(card: Entries) -> Iterator[str]:
    """Accuracy on faces that were made worse on purpose, as `ferkit evaluate --robustness` measures it."""
    found = robustness_of(card)
    if not found:
        return
    yield (
        f"The same {found['n']:,} faces of {split(found)}, degraded. {percent(found['mean_accuracy'])} are right on the mean "
        f"of all degradations, {percent(found['clean']['accuracy'])} as they are: {percent(found['relative_accuracy'])} of "
        f"the accuracy is left{interval(found['relative_accuracy_ci95'])}."
    )
    rows = []
    for name, one in found["degradations"].items():
        levels = zip(one["accuracy"], one["strengths"], strict=True)
        cells = [f"{percent(accuracy, 0)} at {strength:g}" for accuracy, strength in levels]
        rows.append((f"{plain(name)} ({plain(one['unit'])})", percent(one["mean_accuracy"], 0), ", ".join(cells)))
    yield table(("degradation", "mean", "right, at each strength"), rows)


def known(card: Entries, measured: Entries, name: str) -> Iterator[str]:
    """What it is known to do badly, and the commands that say so. name: what ferkit loads the model by."""
    yield "\n".join(f"- {one}" for one in failures(card, measured))
    found = robustness_of(card)
    commands = []
    if "split" in measured:
        truth = " --votes VOTES --truth votes" if measured.get("truth") == "votes" else ""
        commands.append(f"ferkit evaluate {name} DATA --split {code(measured['split'])}{truth}")
    if found:
        limit = f" --limit {found['n']}" if found.get("limited") else ""
        commands.append(f"ferkit evaluate {name} DATA --split {code(found['split'])} --robustness{limit}")
    if commands:
        yield f"These figures come from {joined([f'`{one}`' for one in commands])}."


def failures(card: Entries, measured: Entries) -> Iterator[str]:
    """What the figures say it does badly; the worst classes are named whatever their figures are."""
    scored = scored_classes(measured)
    if len(scored) > 1:
        by_recall = sorted(scored, key=lambda item: item[1]["recall"])[: min(_WORST, len(scored) - 1)]
        found = (f"{percent(one['recall'], 0)} of {plain(name)}" for name, one in by_recall)
        yield f"It overlooks most often: of the faces so labelled it finds {joined(found)}."
        by_precision = sorted(scored, key=lambda item: item[1]["precision"])[: min(_WORST, len(scored) - 1)]
        right = (f"{plain(name)} ({percent(one['precision'], 0)})" for name, one in by_precision)
        yield f"Least to be believed are its answers {joined(right)}: the share that is labelled so."
    few = [f"{plain(name)} ({one['n']:,})" for name, one in scored if one["n"] < _FEW]
    if few:
        yield f"Few faces to measure on: {joined(few)}. Figures of such a class may be far off, see its interval."
    unseen = [plain(name) for name in card["classes"] if measured.get("per_class") and name not in dict(scored)]
    if unseen:
        yield f"Never measured, for want of faces: {joined(unseen)}."
    distinct = measured.get("without_duplicates")
    if distinct and distinct["accuracy"] < measured.get("accuracy", 0):
        yield f"Pictures that occur more than once flatter it by {points(measured['accuracy'] - distinct['accuracy'])}."
    yield from bad_pictures(robustness_of(card))
    yield (
        "It was not measured by age, gender, skin colour or camera, for want of data that says so. Measure it on faces like "
        "those that it will see, and by group (`ferkit evaluate --groups`), before relying on it."
    )
    yield "It answers whatever it is shown, faces or not; its probabilities always sum to 1."


def bad_pictures(found: Entries) -> Iterator[str]:
    """The degradations under which least is left, and those that it does not notice."""
    if not found:
        return
    # Of each degradation the strength at which least is left: accuracy, stated confidence, and what it is called.
    worst = []
    for name, one in found["degradations"].items():
        levels = zip(one["accuracy"], one["mean_confidence"], one["strengths"], strict=True)
        accuracy, confidence, strength = min(levels)
        worst.append((accuracy, confidence, f"{plain(name)} {strength:g} ({plain(one['unit'])})"))
    ranked = sorted(worst)[:_WORST]
    said = (f"{percent(accuracy, 0)} at {called}" for accuracy, _, called in ranked)
    yield f"Of bad pictures it gets few right: {joined(said)}; {percent(found['clean']['accuracy'], 0)} of the same as they are."
    blind = [one for one in ranked if one[1] - one[0] > _UNNOTICED]
    if blind:
        stated = (f"{percent(confidence, 0)} at {called}" for _, confidence, called in blind)
        yield f"It does not notice, and states a confidence of {joined(stated)}."


def scored_classes(measured: Entries) -> list[tuple[str, Entries]]:
    """Classes that have faces, hence figures."""
    return [(name, one) for name, one in entries(measured, "per_class").items() if one.get("n")]
