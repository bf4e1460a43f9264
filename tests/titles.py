"""Random texts for tests of style."""

from hypothesis import strategies as st

_USUAL = "fix:|feat(api)!:|[net]|the|Winter|sourdough|starter|GPU|notes|it's|日本語|—|."


def odd_titles(more: str) -> st.SearchStrategy[str]:
    """Texts that look like titles, tags and noise: plain `st.text()` hardly ever has a tag or a capital in its place.

    `more`: pieces of them, separated by "|", besides the usual ones.
    """
    pieces = f"{_USUAL}|{more}".split("|")
    return st.one_of(st.text(max_size=40), st.lists(st.sampled_from(pieces), max_size=8).map(" ".join))
