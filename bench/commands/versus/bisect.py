"""`pressbench bisect`: the first step, of a user's revisions or environments, that made a model slower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.commands.compare import measure_sides
from bench.commands.versus.answer import make_ratio
from bench.commands.versus.revision import make_revision
from bench.commands.versus.sides import Asked, Variant, make_side, open_setting
from bench.errors import InvalidInput, PressbenchError, Unavailable, Untrusted
from bench.line.prepare import Setting
from bench.line.versus.revisions import HASH, find_revision, list_steps, open_repository
from bench.line.versus.search import Found, Outcome, find_first_bad, halfway, judge_step
from bench.line.versus.sides import Side, launch_sides
from bench.line.versus.until import Compared, Patience, summarize
from bench.report.text import short_percent
from bench.stats import Ratio

NO_ANSWER = Unavailable.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What is searched, from good to bad. `make`: the side of a step; raises `PressbenchError` for one that cannot be built.

    `merges`: which steps are merges of a git history.
    """

    titles: tuple[str, ...]
    make: Callable[[int], Side]
    merges: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search: its steps, how they are measured, and by what they count as bad."""

    steps: Steps
    asked: Asked
    setting: Setting
    say: Callable[[str], None]
    threshold: float | None


def bisect_revisions(
    asked: Asked,
    variant: Variant,
    *,
    good: str,
    bad: str,
    repository: Path,
    threshold: float | None,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], str, int]:
    """The first bad revision along first parents. Raises `InvalidInput` for revisions that cannot be searched."""
    place = open_repository(repository)
    revisions = list_steps(place, find_revision(place, good), find_revision(place, bad))
    with open_setting(asked) as setting:

        def make(number: int) -> Side:
            return make_revision(place, revisions[number], variant, asked, setting)

        titles, merges = tuple(one.title for one in revisions), tuple(one.parents > 1 for one in revisions)
        steps = Steps(titles=titles, make=make, merges=merges)
        return search(Search(steps=steps, asked=asked, setting=setting, say=say, threshold=threshold))


def bisect_environments(
    asked: Asked, variant: Variant, *, pythons: Sequence[str], threshold: float | None, say: Callable[[str], None]
) -> tuple[dict[str, Any], str, int]:
    """The first bad of environments in the order in which they are given, from good to bad."""
    if len(pythons) < 2:
        raise InvalidInput("--python: name at least two environments, from good to bad")
    if len(set(pythons)) < len(pythons):
        raise InvalidInput("--python: an environment is given twice")
    with open_setting(asked) as setting:

        def make(number: int) -> Side:
            return make_side(replace(variant, title=pythons[number], python=pythons[number]), asked, setting)

        steps = Steps(titles=tuple(pythons), make=make)
        return search(Search(steps=steps, asked=asked, setting=setting, say=say, threshold=threshold))


def search(wanted: Search) -> tuple[dict[str, Any], str, int]:
    """Good beside bad first, then steps between them beside good, then the answer beside the step before it.

    Raises what building good or bad raises, and `InvalidInput` where they do not differ or seem to be swapped.
    """
    steps = wanted.steps
    last = len(steps.titles) - 1
    sides = {place: make_end(steps, place) for place in (0, last)}
    good, bad = sides[0], sides[last]
    compared = measure_whole(good, bad, wanted)
    whole = compared.ratio
    wanted.say(f"good  {good.title}")
    wanted.say(f"bad   {bad.title}: {show(whole)}")
    if whole.verdict == "faster":
        raise InvalidInput(f"bad takes {show(whole)} as good, so it is faster: are good and bad swapped?")
    if whole.verdict == "same":
        effect = short_percent(wanted.asked.smallest_effect)
        raise InvalidInput(f"bad takes {show(whole)} as good, the same within {effect}: there is nothing to find")
    if whole.verdict == "inconclusive":
        text = "good and bad cannot be told apart yet: give more --time, or a larger --smallest-effect"
        nothing = {**head(wanted, whole, None), "steps": [], "first_bad": None, "suspects": []}
        return finish(nothing, [text], summarize(compared.pairs)[1], NO_ANSWER)
    threshold = halfway(whole) if wanted.threshold is None else wanted.threshold
    wanted.say(f"a step counts as bad from {1 + threshold:.4f} times good on")
    known = {good.artifact.digest: 0, bad.artifact.digest: last}
    found = find_first_bad(last + 1, make_judge(wanted, sides, known, threshold))
    return conclude(wanted, found, compared, sides, threshold)


def make_end(steps: Steps, place: int) -> Side:
    """Good or bad. Raises what building it raises, with its name."""
    try:
        return steps.make(place)
    except PressbenchError as error:
        raise type(error)(f"{'bad' if place else 'good'} {steps.titles[place]}: {error}") from error


def measure_whole(good: Side, bad: Side, wanted: Search) -> Compared:
    """Time of bad over that of good. Raises `InvalidInput` for two that are one file in one environment."""
    if good.artifact.digest == bad.artifact.digest and good.bench.reach is bad.bench.reach:
        raise InvalidInput(f"{good.title} and {bad.title} deploy the same file, byte by byte: there is nothing to find")
    return measure_sides(good, bad, wanted.asked, wanted.setting)


def make_judge(
    wanted: Search, sides: dict[int, Side], known: dict[str, int], threshold: float
) -> Callable[[int], Outcome]:
    """Judges one step, keeps its side in `sides`, and says what it found. A file that was judged is not judged again."""
    states: dict[int, Outcome] = {0: Outcome(place=0, state="good")}
    states[len(wanted.steps.titles) - 1] = Outcome(place=len(wanted.steps.titles) - 1, state="bad")

    def judge(place: int) -> Outcome:
        found = states[place] = judge_one(place)
        wanted.say(f"{found.state:<7} {title_of(wanted, sides, place)}: {explain(found)}")
        return found

    def judge_one(place: int) -> Outcome:
        try:
            side = sides[place] = wanted.steps.make(place)
        except PressbenchError as error:
            return Outcome(place=place, state="skipped", reason=f"it does not build: {error}")
        twin = known.setdefault(side.artifact.digest, place)
        if twin != place and side.bench.reach is sides[twin].bench.reach and states[twin].state != "unknown":
            reason = f"the same file as {sides[twin].title}"
            return replace(states[twin], place=place, reason=reason)
        return judge_step(
            place,
            lambda number: launch_sides(sides[0], side, number),
            threshold,
            wanted_patience(wanted, threshold),
            threads=side.bench.conditions.threads,
            progress=lambda share: wanted.setting.progress("bisect", share),
        )

    return judge


def wanted_patience(wanted: Search, threshold: float) -> Patience:
    """As narrow as it takes to see on which side of the threshold a step lies, unless a width was asked for."""
    asked = wanted.asked
    own = asked.patience.width != asked.smallest_effect / 2
    return replace(asked.patience, width=asked.patience.width if own else max(threshold / 2, asked.patience.width))


def conclude(
    wanted: Search, found: Found, compared: Compared, sides: dict[int, Side], threshold: float
) -> tuple[dict[str, Any], str, int]:
    """The answer, its text and exit code: with the first bad step measured beside the one before it."""
    titles, first, whole = wanted.steps.titles, found.first_bad, compared.ratio
    rows = [step_json(titles, one, threshold) for one in found.outcomes]
    answer = {
        **head(wanted, whole, threshold),
        "steps": rows,
        "first_bad": None if first is None else titles[first],
        "suspects": [titles[place] for place in found.suspects],
        "last_good": titles[found.good],
    }
    if first is None:
        lines = ["the first bad step is one of these; those before it could not be judged:", *answer["suspects"]]
        return finish(answer, lines, gather_distrust(found, compared), NO_ANSWER)
    before, after = sides[found.good], sides[first]
    step = compared if is_whole(sides, before, after) else measure_step(wanted, before, after)
    answer |= {"step": make_ratio(step.ratio, wanted.asked.smallest_effect) if step else None}
    lines = [f"first bad: {after.title}", *describe_step(wanted, step, whole, before, first)]
    return finish(answer, lines, gather_distrust(found, compared, step), 0)


def is_whole(sides: Mapping[int, Side], before: Side, after: Side) -> bool:
    """Whether two steps run what good and bad run, so that their ratio is known."""
    good, bad = sides[0], sides[max(sides)]
    pairs = ((good, before), (bad, after))
    return all(a.artifact.digest == b.artifact.digest and a.bench.reach is b.bench.reach for a, b in pairs)


def gather_distrust(found: Found, *compared: Compared | None) -> list[str]:
    """Why the answer must not be believed: of every launch that it was made from."""
    judged = [reason for one in found.outcomes for reason in one.distrust]
    measured = [reason for one in compared if one for reason in summarize(one.pairs)[1]]
    return list(dict.fromkeys([*measured, *judged]))


def finish(
    answer: dict[str, Any], lines: Sequence[str], distrust: list[str], code: int
) -> tuple[dict[str, Any], str, int]:
    """The answer with what must not be believed, which decides the exit code."""
    text = "\n".join([*lines, *(f"untrusted: {reason}" for reason in distrust)])
    return {**answer, "reasons": distrust}, text, Untrusted.exit_code if distrust else code


def step_json(titles: Sequence[str], one: Outcome, threshold: float) -> dict[str, Any]:
    """One step that was judged."""
    measured = make_ratio(one.found, threshold) if one.found else {}
    return {"step": titles[one.place], "state": one.state, "reason": one.reason, **measured}


def measure_step(wanted: Search, before: Side, after: Side) -> Compared | None:
    """The first bad step beside the one before it; None where that fails now."""
    try:
        return measure_sides(before, after, wanted.asked, wanted.setting)
    except PressbenchError as error:
        wanted.say(f"not measured beside the step before it: {error}")
        return None


def describe_step(wanted: Search, compared: Compared | None, whole: Ratio, before: Side, first: int) -> list[str]:
    """How much of the whole the step explains, and how to search a merge's branch."""
    lines, step = list[str](), compared.ratio if compared else None
    if step:
        lines.append(f"it takes {show(step)} as the step before it ({before.title}); bad takes {show(whole)} as good")
        if whole.low is not None and step.high is not None and step.high < whole.low:
            lines.append("so other steps made it slower too: name this one as the next good")
    if wanted.steps.merges and wanted.steps.merges[first]:
        short = wanted.steps.titles[first][:HASH]
        lines.append(
            f"it is a merge: search its branch with --bad {short}^2, and --good where it began "
            f"(git merge-base {short}^1 {short}^2)"
        )
    return lines


def head(wanted: Search, whole: Ratio, threshold: float | None) -> dict[str, Any]:
    """What every answer begins with."""
    titles = wanted.steps.titles
    return {
        "good": titles[0],
        "bad": titles[-1],
        **make_ratio(whole, wanted.asked.smallest_effect),
        "threshold": threshold,
    }


def title_of(wanted: Search, sides: dict[int, Side], place: int) -> str:
    """As its side names it, which knows the versions; else as it was given."""
    return sides[place].title if place in sides else wanted.steps.titles[place]


def explain(found: Outcome) -> str:
    """The ratio, or why there is none."""
    ratio = f"{show(found.found)} as good, {found.found.launches} launches" if found.found else ""
    return "; ".join(part for part in (ratio, found.reason) if part)


def show(found: Ratio) -> str:
    """A ratio with its interval."""
    interval = "" if found.low is None else f" ({found.low:.4f} .. {found.high:.4f})"
    return f"{found.ratio:.4f} times as long{interval}"
