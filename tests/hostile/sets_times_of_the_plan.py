"""Changed metadata: sets the plan's times, so that another participant seems to have edited the run."""

from .parts import call, plan_of_the_run

EXPECTED = ("PASSED", "")


def attempt():
    call("utimensat", -100, bytes(plan_of_the_run()), None, 0)


def neighbour(honest, *arguments):
    """Asks for the plan's times."""
    assert plan_of_the_run().stat().st_mtime
    honest(*arguments)
