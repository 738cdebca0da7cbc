"""A hint is given only where its premise was seen, and the grader's own errors are no remark."""

import os
import socket
from types import SimpleNamespace

import pytest
from grading.verdicts import Claim, better_hint, explain, seen
from harness.waiting import Patience, mismatch, wait_until

CLAIM = Claim("It does.", "the claim's own", "")
NOT_CLOSED = mismatch("not within 5 seconds", "the connection is ended by the server")


def server(stage="4b", forked=False, running=True, listeners=1, output=""):
    """What a verdict looks at of a GradedServer."""
    return SimpleNamespace(
        stage=stage,
        running=running,
        output=output,
        has_forked=lambda: forked,
        listens_more_than_once=lambda: listeners > 1,
        end=list,
        last_words=lambda again: [],
    )


def hint(remark, **facts):
    return better_hint(remark.splitlines(), server(**facts)) or "the claim's own"


def test_two_copies_after_fork_only():
    assert "After fork there are two copies" in hint(NOT_CLOSED, stage="3g", forked=True)
    assert "keep-alive" in hint(NOT_CLOSED, stage="3g", forked=False)
    assert "keep-alive" in hint(NOT_CLOSED, stage="4d", forked=True)


def test_no_hint_about_closing_where_nobody_was_answered():
    remark = mismatch("not within 5 seconds", "the first bytes of the answer come")
    assert hint(remark, stage="3g", forked=True) == "the claim's own"


def test_own_listening_sockets_in_4a():
    remark = mismatch("2 of 4 clients are answered, after 5 seconds", "all are")
    assert "SO_REUSEPORT" in hint(remark, stage="4a", listeners=4)
    assert hint(remark, stage="4a") == "the claim's own"
    assert hint(remark, stage="4e", listeners=4) == "the claim's own"


def test_workers_that_do_not_accept():
    remark = mismatch("0 processes besides the parent have the listening socket, after 5 seconds", "2, the workers")
    assert "You have forked" in hint(remark, stage="4e", forked=True)
    assert hint(remark, stage="4e") == "the claim's own"


@pytest.mark.parametrize(
    "stage, remark, words",
    [
        ("4b", "20 clients cost 0 threads", "goroutines"),
        ("4c", "101 clients cost 101 processes", "3g's way"),
        ("4e", "103 clients cost 103 threads", "4b's way"),
    ],
)
def test_what_clients_cost(stage, remark, words):
    assert words in hint(mismatch(remark, "none"), stage=stage)


def test_reason_of_the_end_in_any_language():
    ended = mismatch("the server ends, saying: accept4: too many open files", "it goes on")
    assert "EMFILE" in hint(ended, output="accept4: too many open files")
    assert "What it printed last" in hint(ended, output="no reason")


def test_graders_own_error_is_no_remark():
    lines = explain(KeyError("/first"), CLAIM, server())
    assert lines[0] == "Seen      nothing certain, because the grader fails."
    assert "the grader's own fault" in lines[-1]
    assert "the claim's own" not in "\n".join(lines)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "/proc/7/fd"), AttributeError("state")])
def test_look_at_a_server_that_ends(error):
    assert seen(error, server(running=False)) == ["Seen      the server ends.", "Expected  it goes on."]


def test_errors_of_connections():
    assert "nobody listens any more" in seen(ConnectionRefusedError(), server())[0]
    assert "the listen queue is full" in seen(socket.timeout(), server())[0]
    assert os.strerror(32) in seen(BrokenPipeError(32, os.strerror(32)), server())[0]


def test_wait_for_a_number_says_what_it_saw(monkeypatch):
    monkeypatch.setattr(Patience, "seconds", 0)
    with pytest.raises(AssertionError, match="Seen      it has 8, after 0 seconds"):
        wait_until(lambda: False, "it has 2", seen=lambda: "it has 8")
