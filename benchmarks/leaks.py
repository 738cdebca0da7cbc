"""What leaks: descriptors and zombies of the parent, as clients come and go."""

import resource

from harness.servers import StageServer
from harness.waiting import Unusable, wait_until

CONNECTIONS = 2000
EVERY = 100  # connections
STAGES = ["3c", "3d", "3f", "3g"]
IN_BURSTS = ["3f", "3g"]  # to the others one after the other: their queue is short
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
        # Of processes all that are allowed: whatever the user runs counts.
        soft = hard if limit == resource.RLIMIT_NPROC else max(soft, needed)
        resource.setrlimit(limit, (soft, hard))


def all_stages(connections, step):
    """What leaks() returns for each of STAGES, as a dict."""
    return {stage: leaks(stage, connections, step) for stage in STAGES}


def leaks(stage, connections, step):
    """Let clients come to a stage's server, and look at it after each 100 of them.

    step() is called after each 100. Returns a dict of lists: how many connections there
    were, and how many descriptors and zombies the parent had then.
    """
    server = StageServer(stage)
    found = {"connections": [], "descriptors": [], "zombies": []}

    def look(connections):
        found["connections"].append(connections)
        found["descriptors"].append(len(server.descriptors()))
        found["zombies"].append(len(server.zombies()))

    try:
        look(0)
        for count in range(EVERY, connections + 1, EVERY):
            if stage in IN_BURSTS:
                clients = server.load("--max-clients", str(EVERY))
                assert clients.wait() == 0, clients.output
            else:
                for _ in range(EVERY):
                    client = server.ask()
                    client.wait_for_answer()
                    client.close()  # 3d would not end it
            wait_until(
                lambda: server.children() == server.zombies() and server.blocked(),
                "the children end and the server is asleep",
            )
            look(count)
            step()
        return found
    finally:
        server.kill()
