"""What leaks: descriptors and zombies of the parent, as clients come and go."""

import resource

from library import system
from library.clients import Connection
from library.programs import Unusable, wait_until
from library.servers import OwnServer

CONNECTIONS = 2000
EVERY = 100  # connections
STAGES = ["3c", "3d", "3f", "3g"]
IN_BURSTS = ["3f", "3g"]  # to the others one after the other: their queue is short
OPTIONS = {"3c": ["--delay", "0"]}
OTHERS = 100  # descriptors and processes besides those that leak


def raise_limits(connections):
    """Raise the limits of this process, and so of all that it starts, to let all leak.

    Raises Unusable if the user may not have so much (getrlimit(2)).
    """
    needed = connections + OTHERS
    for limit, option in ((resource.RLIMIT_NOFILE, "n"), (resource.RLIMIT_NPROC, "u")):
        soft, hard = resource.getrlimit(limit)
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise Unusable(f"3d needs {needed} of what `ulimit -H{option}` has {hard}.")
        if limit == resource.RLIMIT_NPROC:  # it counts all that the user runs
            resource.setrlimit(limit, (hard, hard))
        elif soft != resource.RLIM_INFINITY and soft < needed:
            resource.setrlimit(limit, (needed, hard))


def all_stages(connections, step):
    """What leaks() returns for each of STAGES, as a dict."""
    return {stage: leaks(stage, connections, step) for stage in STAGES}


def leaks(stage, connections, step):
    """Let clients come to a stage's server, and look at it after each 100 of them.

    step() is called after each 100. Returns a dict of lists: how many connections there
    were, and how many descriptors and zombies the parent had then.
    """
    server = OwnServer(stage, *OPTIONS.get(stage, []))
    found = {"connections": [], "descriptors": [], "zombies": []}

    def look(connections):
        found["connections"].append(connections)
        found["descriptors"].append(len(server.descriptors()))
        found["zombies"].append(len(server.zombies()))

    try:
        look(0)
        for count in range(EVERY, connections + 1, EVERY):
            if stage in IN_BURSTS:
                burst(server)
            else:
                for _ in range(EVERY):
                    one(server)
            wait_until_settled(server)
            look(count)
            step()
        return found
    finally:
        server.kill()


def burst(server):
    """As many clients as that at once. Raises AssertionError if one is not answered."""
    clients = server.load("--max-clients", str(EVERY))
    try:
        assert clients.wait() == 0, clients.output
    finally:
        clients.kill()


def one(server):
    """One client, which goes when it is answered. 3d would not end its connection."""
    client = Connection(server.port)
    try:
        client.ask()
        client.wait_for_answer()
    finally:
        client.close()


def wait_until_settled(server):
    """Wait until the parent is asleep and its children, if it has any, are zombies.

    Seen twice in a row: the parent is on its way to sleep, or woken, only once.
    """

    def family():
        server.assert_running()
        return [p for p in system.processes() if server.pid in (p.pid, p.parent)]

    def settled():
        found = family()
        at_rest = all(
            p.state in system.BLOCKED if p.pid == server.pid else p.state == system.ZOMBIE
            for p in found
        )
        return at_rest and found == family()

    wait_until(settled, "the children end and the server is asleep")
