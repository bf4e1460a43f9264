"""What a line says of a change: built lines are true, and a model's claims are checked against the text."""

import pytest

from prlm_edge.style import Claim, Style, check_line, example_line, line_claims
from prlm_edge.style.change import Change

FILES = 'src/cache.py, test_cache.py (new), "odd name.py", old.c (deleted), to/b.go (renamed from a.go) (+2 more)'
CACHE = f"""Changed files: {FILES}

In: def fetch(self)
left[lru_cache -> TTLCache]right, 3)
- size = maxsize
+ size = self.limit
- return None
+ # keep what is young
+ return evict_oldest(limit)
"""


@pytest.mark.parametrize(
    ("claim", "true"),
    [
        ("Changes cache.py", True),
        ("Changes test_cache.py and cache.py", True),
        ("Changes cache.rs", False),
        ("New test_cache.py", True),
        ("New cache.py", False),
        ("Deletes old.c", True),
        ("Deletes cache.py", False),
        ("Renames b.go", True),
        ("Renames a.go", False),  # that was its name
        ("Changes cache.py: adds evict_oldest", True),
        ("Changes cache.py: drops evict_oldest", False),
        ("Changes cache.py: drops maxsize", True),
        ("Changes cache.py: adds size", False),  # it stands on both sides
        ("Changes cache.py: touches size", True),
        ("Changes cache.py: touches maxsize", False),
        ("Changes cache.py: adds fetch", False),  # it only says where
        ("Changes cache.py: lru_cache -> TTLCache", True),
        ("Changes cache.py: TTLCache -> lru_cache", False),
        ("Changes cache.py: lru_cache -> evict_oldest", False),  # each is true, the pair is not
    ],
)
def test_what_is_said_of_a_change_is_checked(claim, true):
    last = line_claims(claim)[-1]
    found = check_line(f"{claim}. 4 words.", "cache: evict the oldest", 0, Style(), CACHE)
    n = len(line_claims(claim)) + 1
    assert last.kind != "words" and found == (n if true else n - 1, n)
    assert check_line(claim, "", 0, Style(), "My cat is new.") == (0, n - 1)  # of no change nothing is true


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("cache: evict the oldest", "Changes cache.py and test_cache.py: adds evict_oldest. 4 words"),
        ("use TTLCache", "Changes cache.py: lru_cache -> TTLCache. 2 words"),
        ("test the cache", "New test_cache.py: lru_cache -> TTLCache. 3 words"),
        ("keep young ones", "Changes cache.py: adds keep and young. 3 words"),
        ("limit: no maxsize", "Changes cache.py: drops maxsize. 3 words"),  # the tag is said apart
        ("young, not lru_cache", "Changes cache.py: lru_cache -> TTLCache. 3 words"),
        ("young, no maxsize", "Changes cache.py: adds young; drops maxsize. 3 words"),
        ("cap the size", "Changes cache.py: touches size. 3 words"),
        ("remove old", "Deletes old.c. 2 words"),
    ],
)
def test_a_line_says_what_the_answer_takes_up(answer, said):
    line = example_line(1, answer, CACHE, [], Style(), "change")
    assert line.startswith(said)
    claims = line_claims(line)
    assert check_line(line, answer, 0, Style(), CACHE) == (len(claims), len(claims))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Changed files:",
        "Changed files: a b.py, (x).c, \u00fc.py",
        "Changed files: a.py\n\n+ a\n- b\n+ if x\n+ [x -> y]",
        "Changed files: a.py\n\n+ \u00fcber\n[a[0] -> b[1]] -> c\n- [tag] 3 words, lower case",
        "Changed files: 7 words.py\n\n+ seven words adds b. New c.d: drops x",
        "Changed files: a.py\n\n" + "[a -> " * 700,  # never ends where a pattern goes back and forth in it
        "No files here.",
    ],
)
def test_of_odd_texts_it_says_what_is_true(text):
    for answer in ("seven words", "a", "\u00fcber: tag", "[x] lower case"):
        line = example_line(1, answer, text, [], Style(), "change")
        claims = line_claims(line)
        assert claims and check_line(line, answer, 0, Style(), text) == (len(claims), len(claims)), line


def test_a_line_never_holds_the_answer():
    text = "Changed files: ttl.py\n\n+ evict_oldest"
    assert "evict_oldest" not in example_line(1, "evict_oldest", text, [], Style(), "change")


def test_names_of_both_sides_are_no_news():
    change = Change.of("Changed files: a.py\n\n- left(one)\n+ right(one)\n- [two -> three]")
    names = {verb: list(names) for verb, names in change.names.items()}
    assert names == {"adds": ["right"], "drops": ["left", "two", "three"], "touches": ["one"]}
    assert list(change.swaps) == [("left", "right")]


def test_prose_of_a_model_is_no_claim():
    assert line_claims("The user adds a test and drops nothing; it changes cache.py, new code.") == []
    assert line_claims("New wine in old bottles.") == [Claim("change", "New wine")]
