"""An answer joins the profile: as the user's own where they changed it, else kept but never learned from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from difflib import SequenceMatcher
from typing import Any, Literal

from prlm_edge.errors import UsageError
from prlm_edge.feedback.pairs import KeptPair, write_pairs
from prlm_edge.profile import Profile
from prlm_edge.types import ACCEPTED, Draft, Item, Origin

SOURCE = "prlm-edge"


@dataclass(frozen=True)
class Accepted:
    """What became of a draft.

    Attributes:
        item: Id of the item in the profile.
        draft: Id of the draft.
        origin: Whether the user changed the answer.
        distance: How far, see `distance`.
        added: Whether the item is new; else it was there already, from this draft or with the same content.
        pairs: How many pairs of it and another answer are kept for training.
    """

    item: str
    draft: str
    origin: Origin
    distance: float
    added: bool
    pairs: int


def distance(draft: str, final: str) -> float:
    """How much of two texts differs, 0 to 1: 1 less difflib's ratio of their words; white space does not count."""
    return 1 - SequenceMatcher(None, draft.split(), final.split(), autojunk=False).ratio()


def accept(profile: Profile, draft: Draft, final: str | None = None) -> Accepted:
    """Add what the user made of a draft to their profile.

    A draft that is accepted again takes the place of what it became before.

    Args:
        profile: The profile.
        draft: The draft.
        final: The text as the user uses it; None where that is known already (`Draft.final`), else the first answer.

    Raises:
        UsageError: An empty text, or several lines where the task writes one.
        PrlmError: The profile or the pairs can't be written.
    """
    final = (draft.final or draft.answers[0] if final is None else final).strip()
    if not final:
        raise UsageError("an empty text can't be accepted", "give the text that you use")
    if "\n" in final and not draft.multiline:
        raise UsageError(f"the text has several lines, and a {draft.task} has one", "give that line alone")
    taken = min(draft.answers, key=lambda one: distance(one, final))
    far = round(distance(taken, final), 3)
    origin: Origin = "edited" if taken.split() != final.split() else ACCEPTED
    item = _item(draft, final, origin, far)
    added = False
    if not (profile.path.exists() and profile.update([item])):
        added = bool(profile.append([item]).added)
        item = item if added else _claimed(profile, item)
    pairs = _pairs(draft, item, taken, final, origin)
    write_pairs(profile.path, draft.id, pairs)
    return Accepted(item.id, draft.id, origin, far, added, len(pairs))


def item_id(draft: Draft) -> str:
    """The id of the item that a draft becomes."""
    return f"a{draft.id}"


def said_of(accepted: Accepted) -> str:
    """What became of a draft, in a line for people."""
    if not accepted.added:
        return f"{accepted.item}: in the profile already, brought up to date"
    if accepted.origin == ACCEPTED:
        return f"{accepted.item}: accepted as it was, which is never learned from"
    return f"{accepted.item}: accepted with {accepted.distance:.0%} changed, which shows how you write"


def _item(draft: Draft, final: str, origin: Origin, far: float) -> Item:
    meta: dict[str, Any] = {"origin": origin, "distance": far}
    told = {}
    if draft.writes == "text":  # a request is no title of the user's
        meta["request"] = draft.request
    elif draft.shape == "topic":
        meta["topic"] = draft.request
    else:
        told["text"] = draft.request
    told[draft.writes] = final
    return Item(item_id(draft), date=date.today().isoformat(), kind=draft.kind, source=SOURCE, meta=meta, **told)


def _claimed(profile: Profile, item: Item) -> Item:
    """The item of the profile that has this content: it teaches from now on if `item` does."""
    old = next((one for one in profile if one.content_hash == item.content_hash), item)
    if item.teaches and not old.teaches:
        old = replace(old, meta={**old.meta, **item.meta})
        profile.update([old])
    return old


def _pairs(draft: Draft, item: Item, taken: str, final: str, origin: Origin) -> list[KeptPair]:
    def pair(rejected: str, why: Literal["changed", "left"]) -> KeptPair:
        about = (draft.task, draft.request, draft.shape, draft.used)
        today = date.today().isoformat()
        return KeptPair(draft.id, item.id, *about, final, rejected, why, origin, draft.model, today)

    left = [pair(one, "left") for one in draft.answers if one != taken]
    return [pair(taken, "changed"), *left] if origin != ACCEPTED else left
