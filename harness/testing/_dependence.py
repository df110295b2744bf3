"""A check that every token of the context is read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ..contracts.prompt import TokenizedPrompt
from ._entries import begun_from, entries, first_change
from ._places import Places, embedded, read
from ._prompts import SHORT, prompt_from
from ._reading import in_order, read_once
from ._remote import sent
from ._results import Failed, NotApplicable
from ._trial import Seen, Trial

LENGTH = 2000
"""Most tokens of the text whose tokens are changed one by one."""

ODD = 37
"""Every so many tokens one is changed: no multiple of any usual length of a chunk."""

EDGES = 12
"""So many ends of what was read in one piece are looked at."""

SUSPECTS = 6
"""So many tokens that no pass read are changed, before the verdict."""

NEAR = 3
"""A token without effect between others that have one, so many places away at most, was forgotten, not dropped."""

SHORTER = (0, 15, 35)
"""A token is called unread if that is so in two of three texts: one, and others shorter by so many tokens."""

OTHER_INSTRUCTION = "Look at that.\n\n"


def dependence(trial: Trial) -> str:
    """Another token anywhere in the context is another answer, or is left out on purpose; so is another instruction."""
    if trial.cls.remote:
        return sent(trial)
    _instruction(trial)
    facts, wrong = [], []
    for (
        shorter
    ) in SHORTER:  # a last piece may be too short to be found: then it is longer in most other texts
        size = min(LENGTH, len(trial.prompts[0])) - shorter
        fact, said = _tried(trial, Places(trial.model, size, trial.questions[0]))
        if said:
            wrong.append(said)
        else:
            facts.append(fact)
        if not wrong or len(facts) > 1:
            _far(trial)
            return facts[0]
        if len(wrong) > 1:
            break
    raise Failed(
        f"{wrong[0]}: another in its place changes no logit, whatever is asked; look at where pieces begin and end"
    )


def _instruction(trial: Trial) -> None:
    """Raise Failed if nothing before a short text is read, or all of it twice in a row."""
    told = False
    for size in SHORT:
        try:
            prompt = trial.prompt(size, 21)
        except Failed:
            continue
        other = prompt_from(
            trial.model, [prompt.prompt.context.strip()], prompt.prompt.question, OTHER_INSTRUCTION
        )
        (seen, rows), after = _watched(trial, prompt), trial.alone(other)
        if not seen.logits:
            return
        begin = list(prompt.head_ids.prefix_ids)
        twice = [*begin, *begin]
        if begin and any(_stands_in(row, twice) for row in rows) and not _stands_in(prompt.ids, twice):
            raise Failed(
                f"the {len(begin)} tokens before the text (template and instruction) are read twice in a row; put them "
                "before it once"
            )
        told = True
        pairs = zip(seen.logits, after.logits)
        if (
            any(_stands_in(row, begin[:2]) for row in rows)  # an evictor may drop the rest of it
            or len(seen.logits) != len(after.logits)
            or seen.tokens != after.tokens
            or any(a.shape != b.shape or bool((a != b).any()) for a, b in pairs)
        ):
            return
    if told:
        raise Failed(
            "the instruction is never read: another before a short text changes no logit; keep what stands before the "
            "context (`Head.prefix_ids`)"
        )


def _stands_in(ids: Sequence[int], part: Sequence[int]) -> bool:
    """Whether `part` stands somewhere in `ids`."""
    wanted, size = list(part), len(part)
    return any(list(ids[i : i + size]) == wanted for i in range(len(ids) - size + 1))


def _far(trial: Trial) -> None:
    """Raise Failed if the end of a text longer than the window is never read, which the method says it reads."""
    size = min(LENGTH, max(map(len, trial.prompts)))
    if size <= trial.model.context_length:
        return
    places = Places(trial.model, size, trial.questions[0])
    prompt = places.prompt
    seen, rows = _watched(trial, prompt)
    last = prompt.context_end - 1
    if last in read(prompt, rows) or _moves(trial, places, prompt, seen, last) is not False:
        return
    never = _never_asked_for(trial, places) if trial.cls.sees_question else [last]
    if last in never:
        raise Failed(
            f"the end of a text of {len(prompt)} tokens, more than the window of {trial.model.context_length}, is "
            "never read; read all of it, or say in `context_limit` how much is"
        )


def _tried(trial: Trial, places: Places) -> tuple[str, str]:
    """What was seen; and what is wrong, if anything is."""
    prompt = places.prompt
    with entries(trial.model.network) as kept:
        seen, rows = _watched(trial, prompt)
    begun = begun_from(kept, seen.entries)
    if not seen.logits:
        raise NotApplicable("no logits of the model were seen")
    start, end = prompt.context_start, prompt.context_end

    shown: dict[int, int] = {}

    @cache
    def moves(place: int) -> bool | None:
        if not start <= place < end:
            return None
        with entries(trial.model.network) as kept:
            moved = _moves(trial, places, prompt, seen, place)
        at = first_change(begun, begun_from(kept, seen.entries))
        if at is not None:
            shown[place] = at
        return moved

    read_once(prompt, rows)
    fed = read(prompt, rows)
    tried = sorted({start, end - 1, *range(start, end, ODD), *_edges(rows, prompt, fed)})
    silent = [place for place in tried if moves(place) is False]
    in_order(shown)
    if not silent:
        return f"{len(tried)} of {end - start} tokens changed one by one", ""
    if trial.cls.sees_question:
        never = _never_asked_for(trial, places)
    else:
        never = [place for place in silent if place == end - 1 or _forgotten(moves, place)]
    if never:
        more = f" (and {len(never) - 1} more of those tried)" if len(never) > 1 else ""
        return "", f"token {never[0] - start + 1} of {end - start} of the context is never read{more}"
    share = 1 - len(fed) / (end - start) if fed else len(silent) / len(tried)
    return f"about {share:.0%} of a text leaves no trace; every part can", ""


def _watched(trial: Trial, prompt: TokenizedPrompt) -> tuple[Seen, list[list[int]]]:
    with embedded(trial.model.network) as rows:
        return trial.alone(prompt), rows


def _moves(trial: Trial, places: Places, prompt: TokenizedPrompt, before: Seen, place: int) -> bool | None:
    """Whether another token at `place` changes any logit at all; None if there is no other."""
    other = places.changed(prompt, place)
    if other is None:
        return None
    after = trial.alone(other)
    if len(after.logits) != len(before.logits) or after.tokens != before.tokens:
        return True
    return any(bool((a != b).any()) for a, b in zip(before.logits, after.logits))


def _forgotten(moves: Any, place: int) -> bool:
    """Whether tokens on both sides have an effect that this one lacks."""
    return all(any(moves(place + side * step) for step in range(1, NEAR + 1)) for side in (-1, 1))


def _edges(rows: Sequence[Sequence[int]], prompt: TokenizedPrompt, fed: set[int]) -> list[int]:
    """Places where pieces begin and end, and those between pieces that nobody read."""
    inside = range(prompt.context_start, prompt.context_end)
    gaps = [place for place in inside if place not in fed and {place - 1, place + 1} & fed]
    ends = {tuple(row[-2:]) for row in rows} | {tuple(row[:2]) for row in rows}
    borders = [place for place in inside if tuple(prompt.ids[place - 1 : place + 1]) in ends]
    return [*gaps[:EDGES], *borders[:EDGES], *borders[-EDGES // 2 :]]


def _never_asked_for(trial: Trial, places: Places) -> list[int]:
    """Tokens without effect even if the sentence they stand in is what is asked for."""
    asked = [places.asking(index) for index in range(len(places.sentences))]
    found = [_watched(trial, one.prompt) for one in asked]
    fed: set[int] = set()
    for one, (_, rows) in zip(asked, found):
        back = {new: old for old, new in one.place.items()}
        fed |= {back[place] for place in read(one.prompt, rows) if place in back}
    start, end = places.prompt.context_start, places.prompt.context_end
    lacking = [place for place in range(start, end) if place not in fed]
    never = []
    for place in sorted({start, end - 1, *lacking[:: max(1, len(lacking) // SUSPECTS)]}):
        at = max((i for i, one in enumerate(asked) if one.first <= place), default=0)
        effects = [
            _moves(trial, places, asked[i].prompt, found[i][0], asked[i].place[place])
            for i in range(max(0, at - 1), min(len(asked), at + 2))
            if place in asked[i].place
        ]
        if True not in effects and False in effects:
            never.append(place)
    return never
