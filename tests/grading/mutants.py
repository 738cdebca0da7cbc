"""Faults that the stage tests must find: our scripts, each with one text replaced.

A claim that no fault breaks proves nothing, so each new claim gets a mutant.
"""

from typing import NamedTuple

from grading import mutants_3h
from harness.stages import script


class Mutant(NamedTuple):
    """A stage's script with one text, old, replaced; and the claim that this breaks.

    claim is None if the mutant is right: another way to do it.
    """

    stage: str
    fault: str
    old: str
    new: str
    claim: str

    def __str__(self):
        return f"{self.stage}-{self.fault}"

    def text(self):
        """The mutant's source. Raises ValueError if the script does not have the replaced text exactly once."""
        text = script(self.stage)
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self}: webserver{self.stage}.py has {self.old!r} {text.count(self.old)} times, not once"
            )
        return text.replace(self.old, self.new)


ANSWER = "            client_connection.sendall(RESPONSE)\n"
CHILDS_CLOSE = "            listen_socket.close()  # the child's copy\n"
CLOSE = "        client_connection.close()\n"
HANDLER = "signal.signal(signal.SIGCHLD, grim_reaper)"
LOOP = "def serve_forever(listen_socket, delay):\n"
IGNORED = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
NO_CHILD = "        pass  # no child is left\n"
PARENTS_CLOSE = "too.\n" + CLOSE
RECEIVE = "        request = client_connection.recv(64 * 1024)\n"
SLEEP = "            time.sleep(delay)\n"
STOCK_ACCEPT = "client_connection, client_address = listen_socket.accept()\n"

# Faults of more than one stage: the text that is replaced, and by what
EARLY = (RECEIVE, "        client_connection.sendall(RESPONSE)\n" + RECEIVE)
FORGETS_THE_LAST = (PARENTS_CLOSE, "too.\n")  # the next accept drops it
FORGETS = (PARENTS_CLOSE, "too.\n        os.dup(client_connection.fileno())\n" + CLOSE)
IN_TWO = (
    ANSWER,
    ANSWER.replace("E)", "E[:9])") + SLEEP + ANSWER.replace("E)", "E[9:]); delay = 0"),
)
KEEPS = (CHILDS_CLOSE, "")
LATE = (ANSWER, SLEEP + ANSWER.replace("RESPONSE)", "RESPONSE); delay = 0"))
NO_DELAY = ("time.sleep(delay)", "pass")
NO_HANDLER = (HANDLER, "pass")
NOT_HTTP = (r'b"HTTP/1.1 200 OK\r\n"', r'b"200 OK\r\n"')
OPENS_LATE = (LOOP, LOOP + "    sum(range(20_000_000)); selector = __import__('selectors').DefaultSelector()\n")
SILENT = ('show(f"Child {os.getpid()} of {os.getppid()}: {request!r}")', "pass")
WAITS = (PARENTS_CLOSE, PARENTS_CLOSE + "        signal.pause()\n")

WORKER_ENDED = 'show(f"Worker {pid} terminated'
ALL_END = (WORKER_ENDED, f"[os.kill(each, signal.SIGKILL) for each in workers]; {WORKER_ENDED}")
NOT_AWAITED = (" await asyncio.sleep(delay)\n", " __import__('time').sleep(delay)\n")
FILL_UP = "while len(workers) < count:"
NOT_REPLACED = (FILL_UP, "while (count := count - 1) >= 0:")
ONE_WORKER = (FILL_UP, "while len(workers) < 1:")

# Claims that more than one fault breaks
AT_REST = "Without a free descriptor it rests. When there are some again, it serves the next client."
BY_A_THREAD = "Clients are all answered at once, each by a thread of the one process."
EACH_PROCESSOR = "There is a worker for each processor, and it has the listening socket."
COUNTS_ITS_OWN = "Also asked: each worker accepts clients, and counts its own requests."
EACH_SLEEPS = "All clients are answered at once, and a child sleeps for each of them."
ENDS = "A client gets the answer, and the connection ends."
FIRST = "The first client is answered at once, and its connection stays open."
FIFTH_WAITS = "Four clients are answered at once, and the fifth waits in the listen queue."
ONE_CLIENT = "A worker that is killed takes one client along, is reaped, and replaced."
OWN_CLIENTS = "A worker that is killed takes its own clients along, is reaped, and replaced."
HOLDS_UP_NEXT = "A client that connects and says nothing holds up the next one."
HOLDS_UP_NOBODY = "A client that connects and says nothing holds up nobody."
INTERRUPTED = "The end of a child interrupts accept, and that kills the server."
NEXT_IS_SERVED = "The next client is served after a child's end has interrupted accept."
ONE_MORE = "Also asked: the server prints how many connections it keeps: one more with each."
REPORTS = "Also asked: the handler of SIGCHLD reports the PID of the child that it reaped."
SINGLE = "Single requests, one at a time, are all served and leave no zombie."
THREE_DELAYS = "Three clients take three delays: each is served when the one before it has ended."

# Set by hand: ruff would make it 200 lines longer, and no clearer.
# fmt: off
TABLE = [
    ("3a", "never closes", CLOSE, "", ENDS),
    ("3a", "reads the start of the request only", "64 * 1024", "20", ENDS),
    ("3a", "says a wrong length", 'b"Connection: close', 'b"Content-Length: 3', ENDS),
    ("3a", "looks at the path", "if request:", 'if b"/hello" in request:', "Any path gets the same answer."),
    ("3a", "prints nothing", "show(repr(request))", "pass", "Also asked: the server prints the request."),
    ("3a", "does not set SO_REUSEADDR", "SO_REUSEADDR, 1)", "SO_REUSEADDR, 0)",
     "A server that has ended can be started again at once, on the same port."),
    ("3a", "serves one client only", CLOSE, CLOSE + "        sys.exit()\n",
     "The server serves one client after the other."),
    ("3a", "asks for clients over and over", "        " + STOCK_ACCEPT,
     "        listen_socket.setblocking(False)\n"
     "        try:\n"
     "            " + STOCK_ACCEPT +
     "        except BlockingIOError:\n"
     "            continue\n"
     "        client_connection.setblocking(True)\n",
     "The server serves one client after the other."),
    ("3a", "answers before it reads", *EARLY, HOLDS_UP_NEXT),
    ("3a", "a thread for each client", "        handle_request(client_connection)\n" + CLOSE,
     "        import threading\n"
     "        def serve(connection=client_connection):\n"
     "            handle_request(connection)\n"
     "            connection.close()\n"
     "        threading.Thread(target=serve, daemon=True).start()\n",
     HOLDS_UP_NEXT),
    ("3a", "ends when a client says nothing", "        if request:",
     "        if not request:\n            sys.exit()\n        if request:",
     "The next client is served when the silent one leaves."),

    ("3b", "answers before it reads", *EARLY, FIRST),
    ("3b", "the delay before the answer", *LATE, FIRST),
    ("3b", "the delay within the answer", *IN_TWO, FIRST),
    ("3b", "closes before it sleeps", "time.sleep(delay)", "client_connection.close(); time.sleep(delay)", FIRST),
    ("3b", "a child for each client", "        handle_request(client_connection, delay)\n",
     "        if os.fork() == 0:\n"
     "            handle_request(client_connection, delay)\n"
     "            os._exit(0)\n",
     "During the first one's delay a second client is connected, but not served."),
    ("3b", "no delay", *NO_DELAY, THREE_DELAYS),
    ("3b", "no HTTP", *NOT_HTTP, THREE_DELAYS),
    ("3b", "half the delay", "time.sleep(delay)", "time.sleep(delay / 2)", THREE_DELAYS),
    ("3b", "sleeps for the first client only", "time.sleep(delay)",
     "time.sleep(delay); time.sleep = lambda delay: None",
     THREE_DELAYS),
    ("3b", "two clients at a time", "        handle_request(client_connection, delay)\n",
     "        other, client_address = listen_socket.accept()\n"
     "        handle_request(other, 0)\n"
     "        handle_request(client_connection, delay)\n",
     THREE_DELAYS),

    ("3c", "no delay", *NO_DELAY, EACH_SLEEPS),
    ("3c", "the delay before the answer", *LATE, EACH_SLEEPS),
    ("3c", "the delay within the answer", *IN_TWO, EACH_SLEEPS),
    ("3c", "no HTTP", *NOT_HTTP, "Six clients all end after about one delay."),
    ("3c", "answers before it reads", *EARLY, HOLDS_UP_NOBODY),
    ("3c", "iterative after all", PARENTS_CLOSE, PARENTS_CLOSE + "        os.wait()\n", HOLDS_UP_NOBODY),
    ("3c", "the parent does not print its PID", r"\nParent PID: {os.getpid()}", "",
     "Also asked: the server prints its PID."),
    ("3c", "the child prints its parent's PID only", "Child {os.getpid()} of", "Child of",
     "Also asked: each child prints its own PID and its parent's, in one line."),
    ("3c", "the child keeps the listening socket", *KEEPS, "A child closes its copy of the listening socket."),
    ("3c", "the parent forgets a close", *FORGETS, "The parent closes its copy of each connection."),
    ("3c", "opens a selector late", *OPENS_LATE, None),
    ("3c", "the parent keeps the last one", *FORGETS_THE_LAST, "The parent closes its copy of each connection."),
    ("3c", "the children are reaped", "    while True:\n", "    import signal\n    " + IGNORED + "\n    while True:\n",
     "Finished children stay zombies, because nobody waits for them; the server goes on."),
    ("3c", "a child falls back into the loop", "            os._exit(0)\n", "            continue\n",
     "A child ends when it has served its client, and as if all were well."),

    ("3d", "the parent closes", "client_connections.append(client_connection)",
     "client_connections.append(client_connection.close())",
     "A client gets the answer, and the connection never ends."),
    ("3d", "the parent keeps three at the most", '        show(f"Connections',
     '        del client_connections[:-3]\n        show(f"Connections',
     "Each connection costs the parent one more descriptor."),
    ("3d", "prints no count", '        show(f"Connections kept open: {len(client_connections)}")\n', "", ONE_MORE),
    ("3d", "counts by two", "{len(client_connections)}", "{2 * len(client_connections)}", ONE_MORE),
    ("3d", "the children are reaped", "    client_connections = []\n",
     "    import signal\n    " + IGNORED + "\n    client_connections = []\n",
     "Each connection leaves a zombie."),
    ("3d", "a child fails to end", "            os._exit(0)\n",
     "            import time\n            time.sleep(1000)\n",
     "Each connection leaves a zombie."),
    ("3d", "outlives what accept says", "        " + STOCK_ACCEPT,
     "        try:\n"
     "            " + STOCK_ACCEPT +
     "        except OSError:\n"
     "            continue\n",
     "300 clients kill it in accept, when it may have 256 descriptors."),
    ("3d", "outlives what fork says", "        if os.fork() == 0:  # the child\n",
     "        try:\n"
     "            pid = os.fork()\n"
     "        except OSError:\n"
     "            continue\n"
     "        if pid == 0:\n",
     "500 connections kill it in fork, when its user may have 400 processes."),

    ("3e", "no delay", *NO_DELAY, "A client gets the answer, and the connection ends after the delay."),
    ("3e", "iterative after all", *WAITS, HOLDS_UP_NOBODY),
    ("3e", "no handler", *NO_HANDLER, REPORTS),
    ("3e", "the handler reports nothing", '    show(f"Child {pid} terminated with status {status}")\n', "", REPORTS),
    ("3e", "Python's accept, which retries", "= accept(listen_socket)\n", "= listen_socket.accept()[0]\n", INTERRUPTED),
    ("3e", "ends as if all were well", "        client_connection = accept(listen_socket)\n",
     "        try:\n"
     "            client_connection = accept(listen_socket)\n"
     "        except InterruptedError:\n"
     "            sys.exit(0)\n",
     INTERRUPTED),
    ("3e", "the child keeps the listening socket", *KEEPS,
     "Further connections are refused, because nobody listens any more."),

    ("3f", "no HTTP", *NOT_HTTP, NEXT_IS_SERVED),
    ("3f", "no retry after an interruption", "            continue\n", "            raise\n", NEXT_IS_SERVED),
    ("3f", "no handler", *NO_HANDLER, "Single requests, one at a time, leave no zombie."),
    ("3f", "iterative after all", *WAITS, HOLDS_UP_NOBODY),
    ("3f", "a loop instead of one wait", "    pid, status = os.wait()\n",
     "    pid = status = 0\n"
     "    try:\n"
     "        while os.waitpid(-1, os.WNOHANG)[0]:\n"
     "            pass\n"
     "    except ChildProcessError:\n"
     "        pass\n",
     "Of 20 children that end together 19 stay zombies."),
    ("3f", "SIGCHLD is ignored", HANDLER, IGNORED, "Of 20 children that end together 19 stay zombies."),
    ("3f", "prints nothing", *SILENT, "Also asked: the server prints the request."),

    ("3g", "answers before it reads", *EARLY, HOLDS_UP_NOBODY),
    ("3g", "the handler waits for living children", "os.WNOHANG", "0", HOLDS_UP_NOBODY),
    ("3g", "no HTTP", *NOT_HTTP, SINGLE),
    ("3g", "no handler", *NO_HANDLER, SINGLE),
    ("3g", "the handler dies of ECHILD", NO_CHILD, "        os._exit(1)\n", SINGLE),
    ("3g", "a child that fails", CHILDS_CLOSE, CHILDS_CLOSE + "            os._exit(1)\n", SINGLE),
    ("3g", "one wait instead of a loop", "        while os.waitpid(", "        if os.waitpid(",
     "Children that end together leave no zombie."),
    ("3g", "loses every tenth client", "        " + STOCK_ACCEPT,
     "        " + STOCK_ACCEPT +
     "            if client_address[1] // 2 % 10 == 0:\n"
     "                client_connection.close()\n"
     "                continue\n",
     "128 clients at once are all served, and leave no zombie."),
    ("3g", "the parent forgets a close", *FORGETS, SINGLE),
    ("3g", "a descriptor leaks with each client", PARENTS_CLOSE, PARENTS_CLOSE + "        os.dup(0)\n",
     "500 requests leave no zombie and no descriptor."),
    ("3g", "prints nothing", *SILENT, "Also asked: the server prints the request."),
    ("3g", "the child keeps the listening socket", *KEEPS, "A child closes its copy of the listening socket."),
    ("3g", "a thread for each client", "            pid = os.fork()\n",
     "            import threading\n"
     "            def serve(connection=client_connection):\n"
     "                handle_request(connection, delay)\n"
     "                connection.close()\n"
     "            threading.Thread(target=serve, daemon=True).start()\n"
     "            continue\n",
     "A child closes its copy of the listening socket."),
    ("3g", "SIGCHLD is ignored", HANDLER, IGNORED, None),
    ("3g", "opens a selector late", *OPENS_LATE, None),
    ("3g", "a grandchild serves, and init reaps it", "        if pid == 0:  # the child\n",
     "        if pid == 0 and os.fork():\n"
     "            os._exit(0)\n"
     "        if pid == 0:\n",
     None),
    ("3g", "waits for clients with a time-out", "            " + STOCK_ACCEPT,
     "            import select\n"
     "            if not select.select([listen_socket], [], [], 0.5)[0]:\n"
     "                continue\n"
     "            " + STOCK_ACCEPT,
     None),
    ("3g", "looks for ended children twice a second", HANDLER,
     "listen_socket.settimeout(0.5)\n"
     "    accept = listen_socket.accept\n"
     "    class Patient:\n"
     "        fileno, close = listen_socket.fileno, listen_socket.close\n"
     "        def accept(self):\n"
     "            while True:\n"
     "                grim_reaper(0, None)\n"
     "                try:\n"
     "                    connection, address = accept()\n"
     "                except socket.timeout:\n"
     "                    continue\n"
     "                connection.setblocking(True)\n"
     "                return connection, address\n"
     "    listen_socket = Patient()",
     None),

    ("4a", "one worker", *ONE_WORKER, FIFTH_WAITS),
    ("4a", "a child for each client", "        handle_request(client_connection, delay)\n",
     "        if os.fork() == 0:\n"
     "            handle_request(client_connection, delay)\n"
     "            os._exit(0)\n",
     FIFTH_WAITS),
    ("4a", "no HTTP", *NOT_HTTP, "The same four workers serve all requests: no process is made for one."),
    ("4a", "reads after it has answered", *EARLY, "Four silent clients hold up everybody, until one of them leaves."),
    ("4a", "a worker serves one client only", CLOSE, CLOSE + "        sys.exit()\n",
     "The same four workers serve all requests: no process is made for one."),
    ("4a", "prints no number", ", request {number}", "",
     "Also asked: each worker counts its own requests, and prints the number with each."),
    ("4a", "counts nothing", "            requests = number\n", "",
     "Also asked: each worker counts its own requests, and prints the number with each."),
    ("4a", "replaces no worker", *NOT_REPLACED, ONE_CLIENT),
    ("4a", "all workers end with one", *ALL_END, ONE_CLIENT),
    ("4a", "reaps no worker", "def keep_workers(count):\n",
     "def keep_workers(count):\n"
     "    os.wait = lambda: (os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT).si_pid, 0)\n"
     "    os.waitpid = lambda pid, options: (os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | options), 0)\n",
     ONE_CLIENT),

    ("4b", "iterative after all", "thread.start()", "thread.run()", BY_A_THREAD),
    ("4b", "the delay before the answer", *LATE, BY_A_THREAD),
    ("4b", "a child for each client", "            thread.start()\n",
     "            if os.fork() == 0:\n"
     "                handle_request(client_connection, delay)\n"
     "                os._exit(0)\n"
     "            client_connection.close()\n",
     BY_A_THREAD),
    ("4b", "no delay", *NO_DELAY, "Six clients all end after about one delay."),
    ("4b", "waits for the thread", "thread.start()", "thread.start(), thread.join()", HOLDS_UP_NOBODY),
    ("4b", "counts nothing", "            requests = number\n", "",
     "Also asked: requests that come one at a time are counted right: 1, 2, 3."),
    ("4b", "counts before the work", "            number = requests + 1\n",
     "            requests = number = requests + 1\n",
     "Also asked: requests that come together are all number 1. The others are lost from the count."),
    ("4b", "its threads never end", "target=handle_request",
     "target=lambda *arguments: (handle_request(*arguments), time.sleep(1000))",
     "100 requests leave no thread and no descriptor."),

    ("4c", "recv without the selector", "client_connection.setblocking(False)",
     "client_connection.recv(1, socket.MSG_PEEK), client_connection.setblocking(False)",
     "100 silent clients hold up nobody, and one thread serves them all."),
    ("4c", "a thread for each delay", "time.sleep(delay)",
     '__import__("threading").Timer(delay, client_connection.dup().close).start()',
     "During the first client's delay a second client is connected, but not served."),
    ("4c", "half the delay", "time.sleep(delay)", "time.sleep(delay / 2)", "Three clients take three delays."),
    ("4c", "counts nothing", "            requests = number\n", "",
     "Also asked: requests that come together are counted right: 1 to 20."),
    ("4c", "a process for each client", "client_connection.setblocking(False)",
     "client_connection.setblocking(False), os.fork() == 0 and (client_connection.close(), time.sleep(1000))",
     "100 silent clients hold up nobody, and one thread serves them all."),
    ("4c", "accepts in vain without descriptors",
     "        selector.unregister(listen_socket)  # it stays ready: select would not wait\n", "",
     AT_REST),
    ("4c", "ends without descriptors", "would not wait\n        return\n", "would not wait\n        raise\n", AT_REST),
    ("4c", "never accepts again", "        if not accepting:\n", "        if False:\n", AT_REST),
    ("4c", "looks twice a second", "select(None if accepting else 1)", "select(0.5)", None),

    ("4d", "a sleep that is not awaited", *NOT_AWAITED, "Clients are all answered at once, by one thread."),
    ("4d", "sleeps in threads", " await asyncio.sleep(delay)\n",
     " await loop.run_in_executor(None, __import__('time').sleep, delay)\n",
     "100 clients all end after about one delay."),
    ("4d", "no delay", " await asyncio.sleep(delay)\n", " pass\n", "100 clients all end after about one delay."),
    ("4d", "awaits each client", "        task = asyncio.create_task(handle_request(client_connection, delay))\n",
     "        await handle_request(client_connection, delay)\n"
     "        continue\n",
     "100 silent clients hold up nobody."),
    ("4d", "a thread for each client", "        task = asyncio.create_task(handle_request(client_connection, delay))\n",
     "        threading = __import__('threading')\n"
     "        work = handle_request(client_connection, delay)\n"
     "        threading.Thread(target=asyncio.run, args=(work,), daemon=True).start()\n"
     "        continue\n",
     "Clients are all answered at once, by one thread."),
    ("4d", "an await while it counts", "            requests += 1",
     "            number = requests + 1\n"
     "            await asyncio.sleep(0.1)\n"
     "            requests = number",
     "Also asked: requests that come together are counted right, although they overlap: 1 to 20."),
    ("4d", "accepts in vain without descriptors", "await asyncio.sleep(1)", "await asyncio.sleep(0)", AT_REST),

    ("4e", "one worker", *ONE_WORKER, EACH_PROCESSOR),
    ("4e", "prints no number", ", request {requests}", "", COUNTS_ITS_OWN),
    ("4e", "counts nothing", "requests += 1 ", "requests = 1 ", COUNTS_ITS_OWN),
    ("4e", "recv without the loop", "await loop.sock_recv(client_connection, 64 * 1024)",
     "client_connection.setblocking(True) or client_connection.recv(64 * 1024)",
     "100 silent clients hold up nobody, and no thread is made for them."),
    ("4e", "a thread for each client", "        task = asyncio.create_task(handle_request(client_connection, delay))\n",
     "        threading = __import__('threading')\n"
     "        work = handle_request(client_connection, delay)\n"
     "        threading.Thread(target=asyncio.run, args=(work,), daemon=True).start()\n"
     "        continue\n",
     "100 silent clients hold up nobody, and no thread is made for them."),
    ("4e", "a sleep that is not awaited", *NOT_AWAITED,
     "20 clients are all answered at once, and no process or thread is made for them."),
    ("4e", "replaces no worker", *NOT_REPLACED, OWN_CLIENTS),
    ("4e", "all workers end with one", *ALL_END, OWN_CLIENTS),
]
# fmt: on


MUTANTS = [Mutant(*fields) for fields in [*TABLE, *mutants_3h.TABLE]]
