"""Tells what a request is about from the words around it: "my post on winter sourdough" is about "winter sourdough".

Only words that surely are around it go: a kind of writing with what leads from it to the topic. A kind that titles
often name themselves (a review, a survey, a tutorial), any other request, and one in another language than English stay
as they are.
"""

from __future__ import annotations

import re

_THIS_IS = r"(?:(?:this|it|here)(?: is|['’]s) )?"
_WHOSE = r"(?:my|our|a|an|the|this|that|another|some|one of (?:my|our)) "
_AGE = r"(?:next|new|newest|latest|upcoming|first|second|third|last|recent|current) "
_MANNER = (
    r"(?:own|old|short|long|little|quick|brief|blog|guest|tech|technical|conference|lightning|"
    r"\d+[- ](?:minute|min|page|word)) "
)
_NOUN = (  # of writing and talking; nouns that are no verbs, so that they need no "my" or "a" before "on"
    r"article|essay|write-up|writeup|paper|preprint|keynote|lecture|presentation|video|podcast|episode|newsletter|column"
    r"|chapter|thesis|dissertation|webinar|speech|blog[- ]?post"
)
_OR_VERB = (
    r"post|blog|entry|piece|talk|story|report|poster|thread|draft|note|email|letter|session|book|text|poem|song|novel"
    r"|film"
)
_SAID = r"(?:wrote|write|writing|written|gave|give|giving|given|published|made|recorded|drafted|prepared|finished)"
_BY_ME = (
    rf"(?: (?:(?:that|which) )?(?:[Ii]|we)(?:['’](?:m|re|ve|ll)| am| are| have| will)?(?: just| recently)? {_SAID})?"
)
_TELLS = r"(?:explains|describes|discusses|explores|is about|talks about|deals with)"
_DAY = (  # what a thing is on, as no topic is
    r"(?i:(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:january|february|march|april|may|june|july|august|september"
    r"|october|november|december) \d+|\d+[./]\d+\S*|\d+ \w+|(?:my|our|the) (?:blog|site|website)|medium|substack|github"
    r"|youtube|linkedin|twitter|stage|air|hold|sale)(?: (?:about|at|in|morning|afternoon|evening|night)\b|[\s.!?]*$))"
)
_ABOUT = r" (?:about|regarding|concerning|covering|describing|explaining|discussing|exploring|in which|where) "
_WHICH = rf" {_TELLS} |,? (?:which|that)(?:(?: is|['’]s)(?: all)? (?:about|on)| {_TELLS}| covers| shows| tells) "
_COLON = r" ?[:–—] | - "
# Lower-case but for the first letter: what has more capitals is a title already ("The Post: Spielberg's film").
_WRITING = re.compile(
    rf"{_THIS_IS}(?:"
    rf"{_WHOSE}(?:{_AGE}|{_MANNER})*(?P<mine>{_NOUN}|{_OR_VERB}){_BY_ME}(?:{_ABOUT}| on (?!{_DAY})|{_WHICH}|{_COLON})"
    rf"|{_WHOSE}(?:{_MANNER})*{_AGE}(?:{_AGE}|{_MANNER})*(?P<next>{_NOUN}|{_OR_VERB}), "
    rf"|(?:{_MANNER})*(?P<noun>{_NOUN})(?:{_ABOUT}| on (?!{_DAY})|{_COLON})"
    rf"|(?:{_MANNER})*(?P<verb>{_OR_VERB})(?: about |{_COLON}))(?=\S)"
)
_HAPPENING = re.compile(  # something that is no writing itself
    rf"{_THIS_IS}{_WHOSE}(?:{_AGE}|{_MANNER})*(?:(?:release|version)(?: where| in which)"
    r"|(?:commit|change|patch|pull request|PR)(?: where| in which| (?:that|which)(?= \w+s ))"
    r"|(?:news|announcement)(?: that| about)) (?=\S)"
)


def without_filler(text: str) -> tuple[str, str]:
    """What the one-line request `text` is about, and the kind of writing that it names ("post", "talk"), else "".

    Example: "my next talk, which is about winter sourdough" -> ("winter sourdough", "talk").
    """
    probe = text[:1].lower() + text[1:] if text[:1].isascii() else text
    if match := _WRITING.match(probe):
        kind = next(filter(None, match.groups()))
        return text[match.end() :], "post" if kind.startswith("blog") else kind
    if match := _HAPPENING.match(probe):
        return text[match.end() :], ""
    return text, ""
