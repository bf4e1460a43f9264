"""Task files, and which task a bare request goes to."""

import random
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge import tasks
from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.tasks import get_task, load_tasks, route
from prlm_edge.types import Item

BUILTIN = ["commit", "headline", "note", "paraphrase", "title", "write"]
MINIMAL = 'name = "haiku"\nrequest = "A haiku on {text}"\nnoun = "haiku"\n'


@pytest.fixture(autouse=True)
def own_home(home):
    return home


def write(folder, text, name="haiku.toml"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def test_the_built_in_tasks_name_every_key_and_explain_themselves():
    assert list(load_tasks()) == BUILTIN
    for task in load_tasks().values():
        text = Path(task.source).read_text("utf-8")
        assert text.startswith("# ")
        assert set(tomllib.loads(text)) == {
            "name",
            "description",
            "system",
            "request",
            "noun",
            "learns_from",
            "triggers",
            "multiline",
            "answer_tokens",
            "reasoning_tokens",
            "kinds",
            "avoid_kinds",
        }
        assert len(task.system.split()) <= 12, "a 135M model follows examples, not rules"
        assert task.builtin


def test_the_task_files_are_packaged():
    assert (resources.files("prlm_edge.tasks") / "title.toml").is_file()


def test_a_minimal_task_has_sensible_defaults(tmp_path):
    write(tmp_path, MINIMAL)
    task = get_task("haiku", tmp_path)
    assert (task.before, task.after) == ("A haiku on ", "")
    assert (task.learns_from, task.multiline, task.builtin) == ("title", False, False)
    assert task.answer_tokens > 0 and task.system


def test_braces_and_percent_signs_in_the_wording_are_plain_text(tmp_path):
    write(tmp_path, MINIMAL.replace("A haiku on {text}", "{x} %s {text} {0} <|im_end|>"))
    task = get_task("haiku", tmp_path)
    assert (task.before, task.after) == ("{x} %s ", " {0} <|im_end|>")


def test_later_folders_replace_earlier_ones(home, tmp_path):
    title = MINIMAL.replace("haiku", "title")
    write(home / "config" / "tasks", title.replace("A title on", "Mine:"), "title.toml")
    assert get_task("title").before == "Mine: "
    write(tmp_path / "folder", title.replace("A title on", "Folder:"), "title.toml")
    assert get_task("title", tmp_path / "folder").before == "Folder: "
    assert list(load_tasks(tmp_path / "folder")) == BUILTIN


def test_a_folder_that_is_none_is_an_error_that_says_how_to_mend_it(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder") as caught:
        load_tasks(tmp_path / "none")
    assert "tasks_dir" in caught.value.hint


@pytest.mark.parametrize(("name", "nearest"), [("titel", "title"), ("Commit", "commit"), ("rewrite", "write")])
def test_an_unknown_task_names_the_nearest(name, nearest):
    with pytest.raises(UsageError, match="there is no task") as caught:
        get_task(name)
    assert f"did you mean {nearest}?" in caught.value.hint
    assert "paraphrase" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (MINIMAL + 'triger = ["x"]', "unknown key 'triger'", "did you mean triggers?"),
        (MINIMAL + "zzz = 1", "unknown key 'zzz'", "the keys are: name"),
        (MINIMAL + 'triggers = "x"', "triggers must be a list of texts", "such as: triggers = ["),
        (MINIMAL + "triggers = [1]", "triggers must be a list of texts", "such as"),
        (MINIMAL + 'kinds = [""]', "kinds must be a list of texts", "such as"),
        (MINIMAL + "answer_tokens = 0", "answer_tokens must be a whole number from 1", "such as"),
        (MINIMAL + "answer_tokens = true", "answer_tokens must be a whole number from 1", "such as"),
        (MINIMAL + "reasoning_tokens = -1", "reasoning_tokens must be a whole number from 0", "such as"),
        (MINIMAL + "multiline = 1", "multiline must be true or false", "such as"),
        (MINIMAL + 'learns_from = "body"', 'learns_from must be "title" or "text"', "such as"),
        (MINIMAL.replace("{text}", "it"), "request must be a text that holds {text} once", "such as"),
        (MINIMAL.replace("{text}", "{text}{text}"), "request must be a text that holds {text} once", "such as"),
        (MINIMAL.replace('noun = "haiku"', ""), "no 'noun'", "add a line such as: noun ="),
        (MINIMAL.replace('"haiku"\nreq', '"tanka"\nreq'), "it says name = 'tanka'", "rename the file to tanka.toml"),
        (MINIMAL.replace('name = "haiku"', 'name = "Hai Ku"'), "name must be lower-case letters", "such as"),
        ("name = haiku", "haiku.toml: ", "texts need quotes"),
        ("#" * 70_000, "larger than 64 KiB", "short TOML file"),
    ],
)
def test_a_wrong_file_says_where_what_and_how(tmp_path, text, message, hint):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_tasks(tmp_path)
    assert caught.value.message.startswith(str(path))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_files_that_cant_be_read_are_named(tmp_path):
    path = write(tmp_path, "")
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="byte 8 is not UTF-8"):
        load_tasks(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="directory"):
        load_tasks(tmp_path)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_task_file_raise_anything_else(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "haiku.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        tasks.read_task(path)


# --- items as examples

POST = Item("1", text="Flour, water\nand patience.", title=" bread:\n mostly waiting ", kind="post")
COMMIT = Item("2", text="Changed files: a.py", title="fix: close the file", kind="commit")
TWEET = Item("3", text="The sourdough starter escaped the jar again, and the jar was mine.")
BARE = Item("4", title="winter swimming: again")


def test_which_field_answers_and_which_asks():
    title, write_ = get_task("title"), get_task("write")
    assert title.answer_of(POST) == "bread: mostly waiting"
    assert title.input_of(POST) == "Flour, water\nand patience."
    assert write_.answer_of(POST) == "Flour, water\nand patience."
    assert write_.input_of(POST) == "bread:\n mostly waiting"


def test_an_item_without_the_answer_is_no_example_and_key_words_stand_for_a_missing_input():
    title, paraphrase = get_task("title"), get_task("paraphrase")
    assert title.answer_of(TWEET) == "" and paraphrase.answer_of(BARE) == ""
    assert title.input_of(BARE) == "winter, swimming"
    assert paraphrase.input_of(TWEET) == "sourdough, starter, escaped, jar, mine"
    assert title.examples([TWEET, BARE, POST]) == [BARE, POST]


def test_kinds_are_preferred_and_avoided_but_never_leave_nothing():
    assert get_task("commit").examples([POST, COMMIT]) == [COMMIT]
    assert get_task("commit").examples([POST]) == [POST]
    assert get_task("title").examples([POST, COMMIT]) == [POST]
    assert get_task("title").examples([COMMIT]) == [COMMIT]


# --- bare requests


@pytest.mark.parametrize(
    ("query", "name", "rest"),
    [
        ("title for my post on winter sourdough", "title", "my post on winter sourdough"),
        ("Title for: Winter sourdough", "title", "Winter sourdough"),
        ("  a  TITLE   for — winter sourdough\n", "title", "winter sourdough"),
        ("Please write me a short title about winter sourdough.", "title", "winter sourdough."),
        ("can you suggest another title for this post:\n\nIt rose.\n\nTwice.", "title", "It rose.\n\nTwice."),
        ("a headline about the flood", "headline", "the flood"),
        ("give me five catchy titles for: the flood", "title", "the flood"),
        ("commit message for a.py, b.py", "commit", "a.py, b.py"),
        ("Give me a release note for: fix the parser", "note", "fix the parser"),
        ("rewrite in my own words: hello there", "paraphrase", "hello there"),
        ("rephrase this: hello there", "paraphrase", "hello there"),
    ],
)
def test_a_request_goes_to_the_task_it_names(query, name, rest):
    task, text = route(query, load_tasks())
    assert (task.name, text) == (name, rest)


@pytest.mark.parametrize(
    "query",
    [
        "write a letter to the title office for me",
        "title for",
        "Title for:  ",
        "subtitle for my film",
        "title format of the csv file",
        "the titles",
        "my post has a title for people in a hurry",
        "thank-you note for my neighbour",
        "",
        "über den Winter",
    ],
)
def test_everything_else_is_written_as_it_stands(query):
    task, text = route(query, load_tasks())
    assert (task.name, text) == ("write", query)


def test_the_longest_trigger_wins_whatever_the_order(tmp_path):
    write(tmp_path, MINIMAL + 'triggers = ["title for a haiku about", "Title  For a haiku"]')
    found = load_tasks(tmp_path)
    names = list(found)
    for seed in range(10):
        random.Random(seed).shuffle(names)
        task, text = route("a title for a haiku about frogs", {name: found[name] for name in names})
        assert (task.name, text) == ("haiku", "frogs")


@given(st.text(max_size=80))
def test_routing_loses_nothing_but_the_beginning(query):
    task, text = route(query, load_tasks())
    assert text == query if task.name == "write" else query.rstrip().endswith(text) and text


def test_every_trigger_reaches_its_own_task():
    found = load_tasks()
    for task in found.values():
        for trigger in task.triggers:
            assert route(f"{trigger} zebras", found) == (task, "zebras"), trigger
            assert route(f"Please write a {trigger}: zebras", found) == (task, "zebras"), trigger


def test_a_copy_keeps_the_comments_and_claims_no_requests_of_the_original(tmp_path):
    for name in BUILTIN:
        original = get_task(name)
        path = tmp_path / "mine.toml"
        path.write_text(tasks.copied(original, "mine", path), "utf-8")
        copy = tasks.read_task(path)
        assert (copy.name, copy.request, copy.learns_from) == ("mine", original.request, original.learns_from)
        assert copy.triggers == ("mine for",)
        same = tmp_path / f"{name}.toml"
        same.write_text(tasks.copied(original, name, same), "utf-8")
        assert tasks.read_task(same).triggers == original.triggers
        assert same.read_text("utf-8") == Path(original.source).read_text("utf-8")
