"""That a reader's own server is graded as the README says."""

from grading.example import readmes_example


def test_readmes_server_is_graded_as_the_readme_says(graded):
    program, folder = graded
    _, _, _, printed = readmes_example()
    assert program.wait(60) == 1
    said = program.output.replace(f"{folder}/", "")
    assert said.partition("\n\n")[0] == printed.strip()
