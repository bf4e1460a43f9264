"""Tells what a request is about from the words around it: "my post on winter sourdough" is about "winter sourdough".

Only words that surely are around it go: a kind of writing, and what leads from it to the topic. A kind that titles
often name themselves (a review, a survey, a tutorial), any other request, and one in another language than English stay
as they are.
"""

from __future__ import annotations

import re

_NOUNS = (  # of writing and talking
    r"article|essay|write-up|writeup|paper|preprint|keynote|lecture|presentation|video|podcast|episode|newsletter|column"
    r"|chapter|thesis|dissertation|webinar|speech|blog[- ]?post"
)
_OR_VERBS = (  # "post on ..." may be no noun, unlike "my post on ..." and "paper on ..."
    r"post|blog|entry|piece|talk|story|report|poster|thread|draft|note|email|letter|session|book|text|poem|song|novel"
    r"|film"
)
_HAPPENINGS = {  # what is no writing itself, and what leads from it to the topic
    **dict.fromkeys(("release", "version"), ("where",)),
    **dict.fromkeys(("commit", "change", "patch", "pull request", "PR"), ("where", "does")),
    **dict.fromkeys(("news", "announcement"), ("does", "that", "about")),
}
_BEFORE = (
    r"(?:(?:this|it|here)(?: is|['’]s) )?"
    r"(?P<whose>(?:my|our|a|an|the|this|that|another|some|one of (?:my|our)) )?"
    r"(?:(?:(?P<age>next|new|newest|latest|upcoming|first|second|third|last|recent|current)"
    r"|own|old|short|long|little|quick|brief|blog|guest|tech|technical|conference|lightning"
    r"|\d+[- ](?:minute|min|page|word)) )*"
    rf"(?P<noun>{_NOUNS}|{_OR_VERBS}|{'|'.join(_HAPPENINGS)})(?![\w-])"
    r"(?: (?:(?:that|which) )?(?:[Ii]|we)(?:['’](?:m|re|ve|ll)| am| are| have| will)?(?: just| recently)?"
    r" (?:wrote|write|writing|written|gave|give|giving|given|published|made|recorded|drafted|prepared|finished))?"
)
_LINK = (
    r"(?: (?P<about>about|regarding|concerning|covering|describing|explaining|discussing|exploring)"
    r"|(?: | is |,? (?:which|that)(?: is|['’]s)(?: all)? )(?P<on>on|about)"
    r"|(?:,? (?:which|that))? (?P<tells>explains|describes|discusses|explores|talks about|deals with)"
    r"|,? (?:which|that) (?P<shows>covers|shows|tells)"
    r"| (?P<where>where|in which)| (?P<does>that|which)(?= \w+s )| (?P<that>that)"
    r"|(?P<sign> ?[:–—]| -)|(?P<comma>,)) (?=\S)"
)
_DAY = (  # what a thing is on, as no topic is
    r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:january|february|march|april|may|june|july|august|september"
    r"|october|november|december) \d+|\d+[./]\d+\S*|\d+ \w+|(?:my|our|the) (?:blog|site|website)|medium|substack|github"
    r"|youtube|linkedin|twitter|stage|air|hold|sale)(?: (?:about|at|in|morning|afternoon|evening|night)\b|[\s.!?]*$)"
)


def without_filler(text: str) -> tuple[str, str]:
    """What the one-line request `text` is about, and the kind of writing that it names ("post", "talk"), else "".

    Example: "my next talk, which is about winter sourdough" -> ("winter sourdough", "talk").
    """
    # Lower-case but for the first letter: what has more capitals is a title already ("The Post: Spielberg's film").
    probe = text[:1].lower() + text[1:] if text[:1].isascii() else text
    before = re.match(_BEFORE, probe)  # compiled when first needed
    link = re.compile(_LINK).match(probe, before.end()) if before else None
    if not before or not link:
        return text, ""
    noun, by, topic = before["noun"], link.lastgroup or "", text[link.end() :]
    if noun in _HAPPENINGS:
        return (topic, "") if before["whose"] and by in _HAPPENINGS[noun] else (text, "")
    if by == "comma":
        leads = before["whose"] and before["age"]
    elif by == "on" and re.match(_DAY, topic.lower()):
        leads = False
    elif before["whose"]:
        leads = by not in ("does", "that")
    else:
        leads = (
            by == "sign"
            or link[0] == " about "
            or (by in ("about", "on", "where") and noun not in _OR_VERBS.split("|"))
        )
    return (topic, "post" if noun.startswith("blog") else noun) if leads else (text, "")
