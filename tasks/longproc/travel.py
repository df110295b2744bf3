"""Travel planning: cities, days and flights become a plan; the search that finds it, and what an answer is worth."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError

GOLD = ("ground_truth_cities", "ground_truth_durations")
"""What of a row says the right plan."""
START = "the starting point"
ARTICLES = re.compile(r"\b(a|an|the)\b")
HEAD = "<Solving Procedure>"
ASKED = "Output the plan in the required format:"


@dataclass(frozen=True)
class Stop:
    """A stay in a city, its first and last day among the days."""

    city: str
    first: int
    last: int

    @property
    def days(self) -> int:
        """How many days it has."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Trip:
    """What a plan is to keep to: cities and days in the order of the row, stays whose days are fixed, flights."""

    days: Mapping[str, int]
    fixed: tuple[Stop, ...]
    flights: frozenset[tuple[str, str]]
    cities: int

    @property
    def free(self) -> tuple[str, ...]:
        """The cities whose days are to be found."""
        return tuple(city for city in self.days if city not in {stop.city for stop in self.fixed})


def trip_of(row: Mapping[str, Any], place: str) -> Trip:
    """The trip of a row with ``constraints``, ``connected_cities`` and ``num_cities``.

    Raises
    ------
    UsageError
        If the row has not these fields as the published ones have them.
    """
    try:
        days = {c["city"]: int(c["num_days"]) for c in row["constraints"] if c["type"] == "duration"}
        fixed = [
            Stop(c["city"], int(c["start_day"]), int(c["end_day"]))
            for c in row["constraints"]
            if c["type"] == "fixed"
        ]
        flights = frozenset((str(a), str(b)) for a, b in row["connected_cities"])
        cities = int(row["num_cities"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{place}: constraints, connected_cities and num_cities are not those of a trip ({error!r})"
        ) from None
    return Trip(days, tuple(sorted(fixed, key=lambda stop: stop.first)), flights, cities)


def procedure(trip: Trip) -> str:
    """The search for a plan, line by line as the official code writes it, and the plan.

    Raises
    ------
    UsageError
        If no plan keeps to all of it.
    """
    fixed = {stop.city: stop for stop in trip.fixed}
    lines = [
        "Read the requirements and identify the cities that have fixed schedules "
        "and the cities that need to be arranged."
    ]
    for city, days in trip.days.items():
        at = f", Fixed Schedule: {_days(fixed[city])}" if city in fixed else ""
        lines.append(f"* City: {city}, Duration: {days} days{at}.")
    lines += ["", "Cities that have fixed schedules" + ("" if fixed else ": None.")]
    if fixed:
        lines[-1] += " (sorted by their arrival days):"
        lines += [f"* City: {stop.city}, Fixed Schedule: {_days(stop)}." for stop in trip.fixed]
    lines += ["", "Cities needing arrangement:" + ("" if trip.free else " None.")]
    lines += [f"* City: {city}, Duration: {trip.days[city]} days." for city in trip.free]
    lines.append("")
    plan = _search(trip, 1, (), trip.free, lines)
    if plan is None:
        raise UsageError("no plan keeps to the days and flights of this trip")
    search = "\n".join(lines)
    return f"{HEAD}\n{search}\n</Solving Procedure>\n\n{ASKED}\n<Plan>\n{_written(plan)}\n</Plan>"


def right(cities: str, durations: str, plan: str) -> float:
    """1 if a plan has the cities and stays of the accepted one, which are written with ``**`` between them."""
    wanted = [*zip(filter(None, cities.split("**")), (int(d) for d in durations.split("**") if d))]
    return float(_stays(plan)[: len(wanted)] == wanted)


def followed(said: str, wanted: str) -> float:
    """The share of the lines of the right procedure before the first that the answer does not have in its place.

    Case, punctuation and articles do not count; the line that is missing is counted by its number, so that a procedure
    without a mistake has not quite 1.
    """
    said, wanted = said.replace(ASKED, ""), wanted.replace(ASKED, "")
    if HEAD in said:
        said = HEAD + said.split(HEAD)[1]
    mine, gold = (
        [_plain(line) for line in text.strip().split("\n") if line.strip()] for text in (said, wanted)
    )
    both = list(zip(mine, gold))
    wrong = (at for at, (line, right_line) in enumerate(both) if right_line not in line)
    return max(0, next(wrong, len(both) - 1)) / len(gold)


def _search(
    trip: Trip, day: int, plan: tuple[Stop, ...], free: Sequence[str], lines: list[str]
) -> tuple[Stop, ...] | None:
    """The first plan from `day` on that keeps to everything; None if there is none. What is tried joins `lines`."""

    def tell(text: str, depth: int = 2 * len(plan) + 1) -> None:
        lines.append(f"{' ' * depth}|- {text}" if depth else text)

    tell(f"Current day: {day}. Current plan: [{', '.join(stop.city for stop in plan)}].", 2 * len(plan))
    if len(plan) == trip.cities:
        tell(f"All {trip.cities} cities are arranged. Complete plan is found!", 2 * len(plan))
        return plan
    tell(f"Check whether the city with an arrival day of Day {day} - is fixed.", 2 * len(plan))
    now = next((stop for stop in trip.fixed if stop.first == day), None)
    if now is not None:
        tell(f"Yes. The city with an arrival day of Day {day} - is fixed: {now.city}.", 2 * len(plan))
        choices = [now]
    else:
        tell(
            f"No. Consider possible options from cities needing arrangement: [{', '.join(free)}] "
            "and explore these options in order.",
            2 * len(plan),
        )
        choices = [Stop(city, day, day + trip.days[city] - 1) for city in free]
    after = next((stop for stop in trip.fixed if stop.first > day), None)
    before = plan[-1].city if plan else START
    for stop in choices:
        tell(
            f"Try arranging to visit {stop.city} from Day {day}. Duration: {stop.days} days. "
            f"Schedule: Day {day} - {day + stop.days - 1}."
        )
        tell(f"Check for direct flight from {before} to {stop.city}.")
        if plan and (before, stop.city) not in trip.flights:
            tell("No. Drop this branch.")
            continue
        tell("Yes.")
        if not _fits(stop, after, day, tell):
            continue
        tell("This arrangement is feasible for now. Continue to arrange the rest of the plan.")
        found = _search(trip, stop.last, (*plan, stop), [city for city in free if city != stop.city], lines)
        if found is not None:
            return found
    tell(f"Fail to arrange any option on day {day} in the current arrangement. Drop this branch.")
    return None


def _fits(stop: Stop, after: Stop | None, day: int, tell: Any) -> bool:
    """Whether a stay ends before the next fixed one begins."""
    asked = f"Check whether this arrangement is compatible with the next fixed schedule after Day {day}: "
    if after is None:
        tell(f"{asked}None.")
        tell("No following fixed schedules. This arrangement is compatible.")
        return True
    tell(f"{asked}{after.city} ({_days(after)}).")
    late = after.first < stop.last
    compared = "later than (>)" if late else "not later than (<=)"
    tell(
        f"The departure day of {stop.city} is Day {stop.last}. The arrival day of {after.city} is Day {after.first}. "
        f"Day {stop.last} is {compared} Day {after.first}. This arrangement is "
        + ("incompatible. Drop this branch." if late else "compatible.")
    )
    return not late


def _written(plan: Sequence[Stop]) -> str:
    lines = []
    for number, stop in enumerate(plan):
        arriving = "Visit" if number else f"Arriving in {stop.city} and visit"
        lines.append(f"**Day {stop.first}-{stop.last}:** {arriving} {stop.city} for {stop.days} days.")
        if number + 1 < len(plan):
            lines.append(f"**Day {stop.last}:** Fly from {stop.city} to {plan[number + 1].city}.")
    return "\n".join(lines)


def _stays(plan: str) -> list[tuple[str, int]]:
    """Cities and days of a plan, by its flights: a stay is from one flight to the next."""
    total, spans, flights = None, [], []
    for line in plan.split("\n"):
        if match := re.search(r"European cities for (\d+) days", line):
            total = int(match[1])
        if match := re.search(r"\d+-(\d+)", line):
            spans.append(int(match[1]))
            if spans[-1] == total:
                break
        if match := re.search(r".*Day (\d+).*from (\w+) to (\w+)", line):
            flights.append((int(match[1]), match[2], match[3]))
    if not spans or not flights:
        return []
    cities = [flights[0][1], *(to for _, _, to in flights)]
    days = [1, *(day for day, _, _ in flights), spans[-1]]
    return [(city, days[i + 1] - days[i] + 1) for i, city in enumerate(cities)]


def _days(stop: Stop) -> str:
    return f"Day {stop.first} - {stop.last}"


def _plain(line: str) -> str:
    bare = "".join(char for char in line.lower() if char not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", bare).split())
