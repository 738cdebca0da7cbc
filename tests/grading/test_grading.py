"""That a reader's own server is graded as the README says."""

import sys

from grading.example import readmes_example
from library.programs import Program
from library.servers import ROOT


def test_readmes_server_is_graded_as_the_readme_says(start, tmp_path):
    source, tests, server, printed = readmes_example()
    (tmp_path / "my-server.py").write_text(source, encoding="utf-8")
    server = server.replace("my-server.py", str(tmp_path / "my-server.py"))
    grade = [sys.executable, "-m", "pytest", tests, "--server", server]
    program = start(Program, grade, cwd=ROOT)
    assert program.wait(60) == 1
    said = program.output.replace(f"{tmp_path}/", "")
    assert said.partition("\n\n")[0] == printed.strip()
