"""What a parent leaks as clients come and go: descriptors and zombies."""

import resource

from harness.servers import StageServer
from harness.waiting import Unusable, wait_until

CONNECTIONS = 2000
EVERY = 100  # connections
STAGES = ["3c", "3d", "3f", "3g"]
IN_BURSTS = ["3f", "3g"]  # clients come to the others one by one: their queue is short
OTHERS = 100  # descriptors and processes that don't leak


def raise_limits(connections):
    """Raise the limits that this process passes on (getrlimit(2)), so that all connections can leak.

    Raises Unusable if the hard limits are too low.
    """
    needed = connections + OTHERS
    for limit, option in ((resource.RLIMIT_NOFILE, "n"), (resource.RLIMIT_NPROC, "u")):
        soft, hard = resource.getrlimit(limit)
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise Unusable(f"3d needs {needed}, but `ulimit -H{option}` is {hard}.")
        # As many processes as allowed: the limit counts all that the user runs.
        soft = hard if limit == resource.RLIMIT_NPROC else max(soft, needed)
        resource.setrlimit(limit, (soft, hard))


def all_stages(connections, step):
    """A dict from each of STAGES to its leaks()."""
    return {stage: leaks(stage, connections, step) for stage in STAGES}


def leaks(stage, connections, step):
    """Let clients come to a stage's server, and measure it after every EVERY of them, then call step().

    Returns a dict of lists: the connections so far, and the descriptors and zombies that the parent has then.
    """
    server = StageServer(stage)
    found = {"connections": [], "descriptors": [], "zombies": []}

    def measure(connections):
        found["connections"].append(connections)
        found["descriptors"].append(len(server.descriptors()))
        found["zombies"].append(len(server.zombies()))

    try:
        measure(0)
        for count in range(EVERY, connections + 1, EVERY):
            if stage in IN_BURSTS:
                clients = server.load("--max-clients", str(EVERY))
                assert clients.wait() == 0, clients.output
            else:
                for _ in range(EVERY):
                    client = server.ask()
                    client.wait_for_answer()
                    client.close()  # 3d would never close it
            wait_until(
                lambda: server.children() == server.zombies() and server.blocked(),
                "the children end and the server is asleep",
            )
            measure(count)
            step()
        return found
    finally:
        server.kill()
