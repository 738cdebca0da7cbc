"""What takes too long for the plain suite: 1 GiB through webserver3h.py, and idle clients.

Run by .ci/run: .venv/bin/pytest tests/scripts/check_webserver3h.py
"""

import json
import socket

from library import system
from library.programs import mismatch, wait_until
from library.skips import LINUX_ONLY
from scripts.test_webserver3h import CHUNKED, MIB, POST, ApplicationServer, whole_answer

GIB = 1024 * MIB
MOST = 30 * 1024  # KiB of resident memory, of a child


@LINUX_ONLY
def test_1_gib_up_chunked_and_down_takes_less_than_30_mib(start):
    server = start(ApplicationServer)
    block = bytes(MIB)
    one_more = POST.format("/digest", GIB + 1)  # with it the child is still there
    for head, chunk, last, size in (
        (one_more, block, b"x", GIB + 1),
        (CHUNKED.format("/digest"), b"%x\r\n%s\r\n" % (MIB, block), b"0\r\n\r\n", GIB),
    ):
        client = server.connect()
        client.send(head.encode())
        for _ in range(1024):
            client.send(chunk)
        child, = server.wait_until_children(1)
        assert peak(child.pid) < MOST
        client.send(last)
        assert whole_answer(client)[2].startswith(b"%d " % size)
        client.close()
        server.wait_until_children(0)
    client = server.connect()
    client.ask("/large?1024x1")
    size, most = 0, 0
    while size < GIB:
        size += len(client.socket.recv(MIB))
        if size > GIB - 16 * MIB and not most:
            child, = server.wait_until_children(1)
            most = peak(child.pid)
    assert 0 < most < MOST


def peak(pid):
    """The most resident memory that a process has had, in KiB (proc(5))."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1])


def test_200_idle_clients_hold_up_a_newcomer_for_less_than_a_minute(start):
    """With 64 children for 10 seconds each, it is the turn of the 201st after 30."""
    server = start(ApplicationServer)
    for _ in range(200):
        server.connect()
    newcomer = server.ask("/digest")
    wait_until(lambda: newcomer.answered, "the newcomer is answered", allow=30)


def test_client_that_reads_when_the_child_has_left_gets_all(start):
    """The kernel keeps for it what it cannot have sent yet."""
    server = start(ApplicationServer)
    request = json.dumps(["200 OK", [], ["x" * 150_000]])
    client = server.connect()
    client.send((POST.format("/say", len(request)) + request).encode())
    wait_until(lambda: client.socket.recv(1, socket.MSG_PEEK), "the answer begins")
    server.wait_until_children(0)
    assert len(whole_answer(client)[2]) == 150_000


def test_20_000_requests_leave_no_process_no_descriptor_and_no_memory(start):
    server = start(ApplicationServer)

    def load(rounds):
        for _ in range(rounds):
            load = server.load("--max-clients=8", "--max-conns=125", "--timeout=60")
            assert load.wait(60) == 0, mismatch(load.output.strip(), "all are answered")
        server.wait_until_children(0)
        return server.descriptors(), system.memory(server.pid)

    descriptors, memory = load(2)
    after, more = load(20)
    assert after == descriptors
    assert more <= memory + 64  # KiB: three bytes for each request
