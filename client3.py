"""A load client: many connections held open together, each awaiting an answer.

Type    python3 webserver3g.py                  in one terminal,
        python3 client3.py                      in another: 1 connection; or
        python3 client3.py --max-clients=300    300 processes; or
        python3 client3.py --max-clients 8 --max-conns 50
                                                8, each with 50 connections.
Expect  One line: how many connections were answered, how many failed, and why.
        The exit status is 0 if all of them were answered, else 1.
Note    Answered means that the first bytes of the answer came. It does not wait
        for the end: against webserver3d.py that never comes.
"""

import argparse
import collections
import os
import signal
import socket
import sys
import time

ANSWERED = "answered"


def run_client(options, addresses, report):
    """Open the connections of one client, send a request on each, await the answers.

    Calls report() once for each connection, with ANSWERED or with what went wrong. Returns
    the connections: they stay open for as long as the caller keeps them.
    """
    request = f"GET /hello HTTP/1.1\r\nHost: {options.host}:{options.port}\r\n\r\n"
    deadline = time.monotonic() + options.timeout

    def time_left():  # in seconds, and never 0: that would mean not to wait at all
        return max(deadline - time.monotonic(), 0.001)

    connections = []
    for _ in range(options.max_conns):
        try:
            connection = connect(addresses, time_left)
            connection.sendall(request.encode())
            connections.append(connection)
        except OSError as error:
            report(reason(error))
    for connection in connections:
        try:
            connection.settimeout(time_left())
            report(ANSWERED if connection.recv(4096) else "closed without an answer")
        except OSError as error:
            report(reason(error))
    return connections


def connect(addresses, time_left):
    """Connect to the first of the addresses, from getaddrinfo, that accepts."""
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(time_left())
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            last_error = error
    raise last_error


def reason(error):
    """What went wrong, in the system's words where it has any."""
    return getattr(error, "strerror", None) or str(error)


def run_clients(options):
    """Run all the clients. Returns how often each outcome was reported."""
    outcomes = collections.Counter()
    try:  # once, and not in each child
        addresses = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        outcomes[reason(error)] = options.max_clients * options.max_conns
        return outcomes
    report_read, report_write = os.pipe()  # from the clients: a line per connection
    hold_read, hold_write = os.pipe()  # to the clients: its end lets them go
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, waitpid finds no child
    pids = []
    for _ in range(options.max_clients):
        try:
            pid = os.fork()
        except OSError as error:
            outcomes[f"no process: {reason(error)}"] += options.max_conns
            continue
        if pid == 0:  # the child
            try:
                os.close(hold_write)
                connections = run_client(
                    options,
                    addresses,
                    lambda outcome: os.write(report_write, f"{outcome}\n".encode()),
                )
                os.close(report_write)
                os.read(hold_read, 1)  # the connections stay open until then
            finally:
                os._exit(0)
        pids.append(pid)

    os.close(report_write)
    try:
        # The reports end when every child has closed its copy of the pipe.
        with open(report_read, encoding="utf-8") as reports:
            for line in reports:
                outcomes[line.rstrip("\n")] += 1
                if sys.stdout.isatty():
                    print(f"\r{outcomes[ANSWERED]} answered", end="", flush=True)
    finally:
        os.close(hold_write)
        for pid in pids:
            os.waitpid(pid, 0)
    return outcomes


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--host", default="localhost", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=8888, help="(default: %(default)s)")
    parser.add_argument("--max-clients", type=int, default=1, metavar="N",
                        help="processes (default: %(default)s)")
    parser.add_argument("--max-conns", type=int, default=1, metavar="N",
                        help="connections of each (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=10, metavar="SECONDS",
                        help="for the answers to each process (default: %(default)s)")
    options = parser.parse_args()
    limits = {"port": 65535, "max_clients": 10000, "max_conns": 10000, "timeout": 86400}
    for name, most in limits.items():
        if not 0 < getattr(options, name) <= most:
            option = "--" + name.replace("_", "-")
            parser.error(f"argument {option}: must be above 0, and at most {most}")
    if not hasattr(os, "fork"):
        sys.exit(f"{parser.prog} needs fork. On Windows, use WSL.")
    return options


def main():
    options = parse_options()
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # it was closed
    sys.stdout.reconfigure(errors="replace")  # reasons may be in the user's language
    outcomes = run_clients(options)
    total = options.max_clients * options.max_conns
    if total > sum(outcomes.values()):
        outcomes["client ended early"] = total - sum(outcomes.values())

    answered = outcomes.pop(ANSWERED, 0)
    summary = f"{answered} of {total} connections to {options.host} port {options.port}"
    summary += f" answered, {total - answered} failed"
    if outcomes:
        reasons = (f"{count} {outcome}" for outcome, count in outcomes.most_common())
        summary += ": " + ", ".join(reasons)
    over_the_progress = "\r" if sys.stdout.isatty() else ""
    print(over_the_progress + summary, flush=True)
    sys.exit(0 if answered == total else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(1)
    except OSError as error:
        sys.stdout = None  # nothing is left to flush
        sys.exit(f"Cannot print the result: {error}")
