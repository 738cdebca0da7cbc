"""That a reader's own server is graded as the README says."""

import re
import shlex
import socket
import sys

import pytest
from programs import Program
from servers import ROOT


@pytest.fixture
def grade(start, monkeypatch):
    """grade(option, ...) starts to grade a server as 3a, from the repository's top."""
    monkeypatch.chdir(ROOT)
    command = [sys.executable, "-m", "pytest", "tests/test_webserver3a.py"]
    return lambda *options: start(Program, [*command, *options])


def test_readmes_example_comes_out_as_it_says(grade):
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## Grade a server of your own")[2]
    source = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    command, printed = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    words = shlex.split(command)
    assert words[:2] == [".venv/bin/pytest", "tests/test_webserver3a.py"]
    # The server's file need not be there: Python takes its text as well.
    server = words[3].replace("my-server.py", f"-c {shlex.quote(source)}")
    graded = grade("--server", server)
    assert graded.wait(60) == 1
    assert printed in graded.output


def test_without_port_the_server_is_met_where_server_port_says(grade):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    server = f"{sys.executable} webserver3a.py --port {port}"
    graded = grade("--server", server, "--server-port", str(port))
    assert graded.wait(60) == 0
    assert graded.output.count("holds  ") == 6


NOT_GRADABLE = {
    "no-such-program {port}": r"There is no program 'no-such-program' that I could start\.",
    "sh -c 'echo because >&2; exit 3'": r"Your server ended with status 3 before .*because",
    "sleep 600": r"Your server runs, but does not listen on port \d+\.",
    "yes": r"The server prints without end\.",
    "sh -c 'not closed": r"The command .* cannot be split: No closing quotation\.",
}


def test_what_cannot_be_graded_gets_one_plain_sentence(grade):
    gradings = {}
    for command in NOT_GRADABLE:
        options = ["--patience=1"] if command == "sleep 600" else []
        gradings[command] = grade("--server", command, "--server-port=1", *options)
    for command, sentence in NOT_GRADABLE.items():
        graded = gradings[command]
        assert graded.wait(60) == 1
        pattern = rf"\s*{sentence}[^\n]*\n+no tests ran in [^\n]*\n"
        assert re.fullmatch(pattern, graded.output, re.DOTALL)
        assert graded.errors == ""


def test_port_that_is_taken_is_said_at_once(grade):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        graded = grade("--server", "sleep 600", "--server-port", str(port))
        assert graded.wait(60) == 1
    assert f"Port {port} is taken" in graded.output
