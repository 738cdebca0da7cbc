"""The text of the stages: from one to the next, only the lesson changes.

Readers compare neighbours with diff. Every line that differs for no reason hides the lesson, and text
that was meant to be the same drifts apart unless it is compared.
"""

import re

import pytest
from harness.stages import ALL_STAGES, ROOT, STAGES, difference, pieces, script

# How many lines a stage may add and remove, and the functions, constants and last block that change.
LESSONS = {
    "3b": (15, {"DELAY", "serve_forever", "handle_request", "main"}),
    "3c": (13, {"serve_forever", "handle_request", "main"}),
    "3d": (7, {"DELAY", "serve_forever"}),
    "3e": (25, {"DELAY", "LIBC", "serve_forever", "accept", "grim_reaper"}),
    "3f": (9, {"DELAY", "REQUEST_QUEUE_SIZE", "serve_forever"}),
    "3g": (31, {"LIBC", "serve_forever", "accept", "grim_reaper"}),
    "4a": (64, {"WORKERS", "requests", "keep_workers", "serve_forever", "handle_request", "grim_reaper", "main"}),
    "4b": (55, {"WORKERS", "keep_workers", "serve_forever", "handle_request", "main"}),
    "4c": (50, {"serve_forever", "accept", "handle_request"}),
    "4d": (64, {"serve_forever", "accept", "handle_request", "main"}),
    "4e": (46, {"WORKERS", "keep_workers", "handle_request", "main"}),
}
LONGEST = 150  # lines of a stage
WITH_WORKER = "Worker {os.getpid()}, r"  # how 4a and 4e show a request,
ALONE = "R"  # and how 4b, 4c and 4d do

NEXT = {
    "3g": ["webserver3h.py", "webserver4a.py"],
    "3h": ["webserver3i.py"],
    "3i": ["docs/3i.md"],
    "4e": ["docs/next.md"],
}
NEXT.update({stage: [f"webserver{after}.py"] for stage, after in zip(STAGES, STAGES[1:]) if stage not in NEXT})


@pytest.mark.parametrize("stage", LESSONS)
def test_only_the_lesson_changes(stage):
    before = STAGES[STAGES.index(stage) - 1]
    old, new = pieces(before), pieces(stage)
    _, lesson = LESSONS[stage]
    assert {name for name in {*old, *new} if old.get(name) != new.get(name)} == lesson


@pytest.mark.parametrize("stage", LESSONS)
def test_few_lines_change(stage):
    before = STAGES[STAGES.index(stage) - 1]
    most, _ = LESSONS[stage]
    assert len([line for line in difference(before, stage)[2:] if line[0] in "+-"]) <= most


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_short(stage):
    assert script(stage).count("\n") <= LONGEST


def test_4as_workers_run_3bs_loop():
    *_, loop = pieces("3b")["serve_forever"].partition("accept()\n")
    *_, ours = pieces("4a")["serve_forever"].rpartition("continue\n")
    assert ours == loop


def test_4as_accept_is_3gs():
    ours, full = pieces("4a")["serve_forever"], pieces("3g")["serve_forever"]
    start, end = "        try:", "continue\n        "
    assert ours[ours.index(start) : ours.rindex(end)] == full[full.index(start) : full.rindex(end)]


def test_4cs_handler_is_4bs_that_goes_back_to_the_selector():
    ours, threads = (pieces(stage)["handle_request"].splitlines() for stage in ("4c", "4b"))
    remaining = iter(line.strip() for line in ours)
    for line in threads[1:]:
        assert line.strip() in remaining, line  # in this order


def test_4bs_handler_is_4as_and_closes():
    handler = pieces("4a")["handle_request"].replace(WITH_WORKER, ALONE)
    assert pieces("4b")["handle_request"] == f"{handler}\n    client_connection.close()"


def test_4e_is_4as_parent_with_4ds_loop():
    ours, parent, loop = pieces("4e"), pieces("4a"), pieces("4d")
    changed = {name for name in ours if ours[name] not in (parent.get(name), loop.get(name))}
    assert changed == {"WORKERS", "handle_request", "main"}


def test_4es_handler_is_4ds():
    handler = pieces("4e")["handle_request"].replace(WITH_WORKER, ALONE)
    assert handler == pieces("4d")["handle_request"]


def test_4es_main_is_4as():
    call = "serve_forever(listen_socket, options.delay)"
    ours = pieces("4e")["main"].replace(f"asyncio.run({call})", call)
    assert ours == pieces("4a")["main"]


SHARED = ["REQUEST_QUEUE_SIZE", "make_listen_socket", "__main__"]


@pytest.mark.parametrize("name", [*SHARED, "grim_reaper", "show"])
def test_3h_has_3gs_text(name):
    assert pieces("3h")[name] == pieces("3g")[name]


@pytest.mark.parametrize("name", SHARED)
def test_3i_has_3gs_text(name):
    assert pieces("3i")[name] == pieces("3g")[name]


def test_3hs_loop_is_3gs_with_an_application():
    ours = pieces("3h")["serve_forever"].splitlines()
    changed = [line for line in ours if line not in pieces("3g")["serve_forever"].splitlines()]
    assert all("application" in line for line in changed) and len(changed) <= 3


@pytest.mark.parametrize("stage", ["3h", "3i"])
def test_applications_server_has_3as_options(stage):
    remaining = iter(pieces(stage)["main"].splitlines())
    for line in pieces("3a")["main"].splitlines()[:6]:
        assert line in remaining, line  # in this order


# The docstrings


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_docstring_shows_what_to_type(stage):
    docstring = script(stage).split('"""')[1]
    assert f"python3 webserver{stage}.py" in docstring
    assert re.search("curl (-i )?localhost:8888/hello", docstring)


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_docstring_names_the_next_step(stage):
    _, _, following = script(stage).split('"""')[1].partition("\nNext    ")
    for name in NEXT[stage]:
        assert name in following


@pytest.mark.parametrize("gate", [".ci/run", ".github/workflows/tests.yml"])
def test_gate_runs_the_readmes_test_command(gate):
    text = (ROOT / gate).read_text(encoding="utf-8")
    (command,) = re.findall(r"python3 -m venv .*pytest$", text, re.MULTILINE)
    assert f"\n{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
