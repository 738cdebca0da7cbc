"""The stage tests tell right from wrong: a mutant breaks its claim, and no stage passes as another.

A claim is a function of `serve`. Here it is called with a `serve` that starts another script than the stage's.
It takes minutes: .venv/bin/pytest -n 3 -m slow tests/grading/test_discrimination.py
"""

import builtins
import dis
import itertools
import sys
import types

import pytest
from grading.claims import FAILS, claims_of, marks
from grading.mutants import MUTANTS
from harness.stages import DEFAULT_DELAY, STAGES, script_path


def test_mutants_fit():
    """The scripts have the texts that mutants replace, and the stages the claims that mutants break."""
    for mutant in MUTANTS:
        compile(mutant.text(), str(mutant), "exec")
        assert mutant.claim in [None, *claims_of(mutant.stage)], f"{mutant}: no such claim"


def case(mutant, test, name):
    return pytest.param(mutant, test, id=name, marks=marks(test, "skipif"))


BROKEN = [case(each, claims_of(each.stage).get(each.claim), str(each)) for each in MUTANTS if each.claim]
RIGHT = [
    case(each, test, f"{each}-{test.__name__}")
    for each in MUTANTS
    if not each.claim
    for test in claims_of(each.stage).values()
]
PAIRS = [pytest.param(*pair, id="{}-as {}".format(*pair)) for pair in itertools.permutations(STAGES, 2)]


@pytest.fixture
def mutate(tmp_path):
    """mutate(mutant) writes its script. Returns the path."""

    def mutate(mutant):
        path = tmp_path / script_path(mutant.stage).name
        path.write_text(mutant.text(), encoding="utf-8")
        return path

    return mutate


@pytest.mark.slow
def test_mutants_use_no_name_that_their_script_lacks():
    for mutant in MUTANTS:
        functions = [compile(mutant.text(), str(mutant), "exec")]
        for function in functions:  # grows during the loop
            functions += [constant for constant in function.co_consts if isinstance(constant, types.CodeType)]
        instructions = [each for function in functions for each in dis.get_instructions(function)]
        stored = {each.argval for each in instructions if each.opname in ("STORE_NAME", "STORE_GLOBAL")}
        loaded = {each.argval for each in instructions if each.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
        assert loaded - stored <= {*dir(builtins), "__doc__", "__file__"}, mutant


@pytest.mark.slow
@pytest.mark.parametrize("mutant, test", BROKEN)
def test_mutant_breaks_its_claim(mutant, test, call, mutate):
    script, takes_delay = mutate(mutant), mutant.stage in DEFAULT_DELAY
    for needed in dependencies(test):
        call(needed, script, takes_delay)
    with pytest.raises(FAILS):
        call(test, script, takes_delay)


def dependencies(test):
    """The tests without which the grader does not try a test, the first one first."""
    for mark in marks(test, "depends_on"):
        needed = test.__globals__[mark.args[0]]
        yield from dependencies(needed)
        yield needed


@pytest.mark.slow
@pytest.mark.parametrize("mutant, test", RIGHT)
def test_right_mutant_holds(mutant, test, call, mutate):
    call(test, mutate(mutant), mutant.stage in DEFAULT_DELAY)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_stage_passes_as_itself(stage, grade):
    delay = " --delay {delay}" if stage in DEFAULT_DELAY else ""
    graded = grade(stage, "--server", f"{sys.executable} {script_path(stage)} --port {{port}}{delay}")
    assert graded.wait(120) == 0, graded.output


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["3h", "3i"])
@pytest.mark.parametrize("test", claims_of("3h").values())
def test_server_of_applications_passes_as_3h(stage, test, call):
    call(test, script_path(stage), takes_delay=False)


@pytest.mark.slow
@pytest.mark.parametrize("stage, other", PAIRS)
def test_stage_fails_as_another(stage, other, call):
    # Without its delay, 3b is 3a: it keeps its own where the other stage has none.
    takes_delay = stage in DEFAULT_DELAY and other in DEFAULT_DELAY
    with pytest.raises(FAILS):
        for test in claims_of(other).values():
            call(test, script_path(stage), takes_delay)
