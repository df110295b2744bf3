"""Whether an answer is what the model chose, from as many KV entries as the method declares.

Every token has to be the greedy choice of the logits of a pass that was seen; that pass was fed the token before it
and nothing else, and read no more KV entries than were declared and the answer has added since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..contracts.outputs import Scored
from ..errors import MeasurementError

if TYPE_CHECKING:
    from ..contracts.outputs import Decoding, Generation
    from .meter import Meter
    from .witness import Step

TOLERANCE = 0.01
"""Share by which declared and observed KV entries may differ (and never less than `TOLERANCE_TOKENS`)."""
TOLERANCE_TOKENS = 2

TIE = 4
"""Logits within so many rounding errors of the largest are as large: a head may be followed by a soft cap."""

STARTS = 64
"""So many places where an answer may have begun are tried."""


@dataclass(frozen=True)
class Asked:
    """What is known of a sample besides its answer.

    Attributes
    ----------
    last
        The last token of its prompt.
    decoding
        How it was to be answered.
    ends
        Tokens that end an answer: not to be chosen before `Decoding.min_new_tokens`.
    eps
        The rounding error of the model's type.
    row
        Which sample of its batch it is.
    most
        Most KV entries that any sample of the batch may have read at its end, by what is declared; None: not known.
    """

    last: int
    decoding: Decoding
    ends: Sequence[int]
    eps: float
    row: int = 0
    most: float | None = None


@dataclass(frozen=True)
class Proof:
    """What came of holding an answer against what was seen.

    Attributes
    ----------
    holds
        Whether the answer is proved to be the model's choice from the entries it declares.
    doubts
        What was not seen, or is worth knowing, in words.
    """

    holds: bool
    doubts: list[str]


def allowed(declared: float) -> float:
    """By how many entries what was seen may differ from what is declared."""
    return max(TOLERANCE_TOKENS, TOLERANCE * declared)


def prove(answer: Generation | Scored, meter: Meter, asked: Asked) -> Proof:
    """Hold an answer against what was seen while it was made.

    Raises
    ------
    MeasurementError
        If what was seen speaks against it.
    """
    witness = meter.witness
    if witness is None:
        return Proof(False, ["nobody watched"])
    noted = [f"{name} ran, which is no part of the model" for name in witness.foreign]
    if isinstance(answer, Scored):
        unseen = _scored(answer, witness.steps, asked, meter.batch or 1)
    elif not answer.token_ids:
        return Proof(True, noted)
    elif not witness.steps:
        unseen = ["no logits were seen that the answer was chosen from"]
    else:
        tokens = [int(t) for t in answer.token_ids]
        chain = _chain(answer.kv_tokens, tokens, asked, witness.steps)
        fed = bool(chain)
        chain = chain or _chain(answer.kv_tokens, tokens, asked, witness.steps, fed=False)
        if not chain:
            raise MeasurementError(_against(answer, tokens, asked, witness.steps))
        unseen = _unseen(chain, fed)
        noted += _noted(chain, answer.kv_tokens)
    return Proof(not unseen, unseen + noted)


def _unseen(chain: Sequence[Step], fed: bool) -> list[str]:
    """What of an answer's passes was not seen."""
    found = []
    if any(step.entries is None for step in chain):
        found.append("what the answer's passes attended to was not seen")
    if not fed:
        found.append("the answer's passes were not seen to be fed its tokens")
    return found


def _noted(chain: Sequence[Step], declared: int) -> list[str]:
    """What is worth knowing of an answer's passes."""
    found = []
    if any(step.hooked for step in chain):
        found.append("hooks or functions hung on the model while it answered")
    if chain[0].width > declared + allowed(declared):
        found.append(f"the first token was chosen by a pass over {chain[0].width} tokens")
    return found


def _chain(
    declared: float,
    tokens: Sequence[int],
    asked: Asked,
    steps: Sequence[Sequence[Step]],
    *,
    fed: bool = True,
    tied: bool = True,
) -> list[Step]:
    """The passes that gave the answer, in order; empty if there are none.

    `fed` false: it need not be known what those passes were fed; `tied` false: nor that the logits are theirs.
    """
    slack = allowed(declared)

    def fits(step: Step, place: int, before: int) -> bool:
        if not _greedy(step, tokens[place], asked, place):
            return False
        if tied and not step.tied:
            return False
        # A first pass may be fed embeddings, which have no ids; an answer is fed what it says.
        if step.fed != before and (step.fed is not None or (fed and place > 0)):
            return False
        if place and step.width > 1:
            return False
        return step.entries is None or step.entries <= declared + place + slack

    def begins() -> Iterator[tuple[int, Step]]:
        for number, rows in enumerate(steps):
            for step in rows:
                if fits(step, 0, asked.last):
                    # Fewer than declared is no compression either; a long pass reads the rest itself.
                    if step.width == 1 and step.entries is not None and step.entries < declared - slack:
                        continue
                    yield number, step

    for _, (number, first) in zip(range(STARTS), begins()):
        chain = [first]
        for place in range(1, len(tokens)):
            for later in range(number + 1, len(steps)):
                step = next((s for s in steps[later] if fits(s, place, tokens[place - 1])), None)
                if step is not None:
                    break
            else:
                break
            number = later
            chain.append(step)
        if len(chain) == len(tokens):
            return chain
    return []


def _greedy(step: Step, token: int, asked: Asked, place: int) -> bool:
    """Whether a token is the largest of a step's logits, of those that were allowed."""
    held_back = set(asked.ends) if place < asked.decoding.min_new_tokens else set()
    free = [(t, value) for t, value in zip(step.tokens, step.logits) if t not in held_back]
    if not free:  # so many end tokens that the choice is not among those kept
        return token not in held_back
    largest = free[0][1]
    slack = TIE * asked.eps * abs(largest)
    return any(t == token and value >= largest - slack for t, value in free)


def _against(answer: Generation, tokens: list[int], asked: Asked, steps: Sequence[Sequence[Step]]) -> str:
    """Why there is no chain, in a sentence."""
    most = float("inf")
    if chain := _chain(most, tokens, asked, steps, fed=False):
        read = max((s.entries - place for place, s in enumerate(chain) if s.entries is not None), default=0)
        return (
            f"the method says its answer began from {answer.kv_tokens} KV entries, but the passes that chose its "
            f"tokens were seen reading {read}; the run is not to be believed"
        )
    if _chain(most, tokens, asked, steps, fed=False, tied=False):
        return (
            "the logits of the method's answer are not those of the passes before them: the model's head was given "
            "other hidden states; the run is not to be believed"
        )
    known = [step for rows in steps for step in rows]
    place = next(
        (i for i, t in enumerate(tokens) if not any(_greedy(step, t, asked, i) for step in known)), None
    )
    if place is None:
        return (
            "the method's answer is not what the model chose token by token: no row of passes, each fed the token "
            "before it and nothing else, gives it; the run is not to be believed"
        )
    return (
        f"token {place + 1} of the method's answer is the greedy choice of no logits that were seen; decode "
        "greedily and return what was chosen (the run is not to be believed)"
    )


def _scored(answer: Scored, steps: Sequence[Sequence[Step]], asked: Asked, batch: int) -> list[str]:
    """What was not seen of likelihoods; raises MeasurementError if they are from more entries than declared.

    Where they begin is seen row by row; what follows may be of any sample of the batch, and is held against the most
    that any of them may read.
    """
    longest = max(x.tokens for x in answer.likelihoods)
    declared, slack = answer.kv_tokens, allowed(answer.kv_tokens)
    known = [step for rows in steps for step in rows]
    first = [i for i, s in enumerate(known) if s.width == 1 and s.fed == asked.last]
    mine = (
        first if batch == 1 else [i for i in first if known[i].batch == batch and known[i].row == asked.row]
    )
    begins = mine or first
    right = [i for i in begins if (n := known[i].entries) is None or abs(n - declared) <= slack]
    after = known[right[0] :] if right else [known[i] for i in begins]
    read = [step.entries for step in after if step.entries is not None]
    most = declared + longest if batch == 1 or asked.most is None else asked.most
    if read and ((mine and not right) or max(read) > most + max(slack, allowed(most))):
        raise _more(declared, max(read))
    if not right or len(read) < len(after):
        return ["the passes that the likelihoods are from were not seen"]
    return []


def _more(declared: float, seen: float) -> MeasurementError:
    return MeasurementError(
        f"the method says its likelihoods are from {declared} KV entries, but the passes that gave them were "
        f"seen reading {seen}; the run is not to be believed"
    )
