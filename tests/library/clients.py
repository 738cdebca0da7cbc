"""A client's connection to a server, looked at without waiting for it."""

import re
import socket
import struct

from library.programs import Patience, mismatch, wait_until


class Connection:
    """A client's connection to a port of 127.0.0.1, established when this returns.

    allow is how many seconds longer than usual its answer and its end may take. Raises
    OSError, ConnectionRefusedError among them, if it is not established.
    """

    def __init__(self, port, allow=0):
        address = ("127.0.0.1", port)
        self.socket = socket.create_connection(address, timeout=Patience.seconds + allow)
        self.port = self.socket.getsockname()[1]
        self.allow = allow
        self.received = b""
        self.was_reset = False
        self._ended = False

    def send(self, data):
        """Send bytes. Raises OSError if the server has reset the connection."""
        self.socket.sendall(data)

    def ask(self, path="/hello"):
        """Send a request for a path (RFC 9112)."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def receive_available(self):
        """Take in what has arrived by now, without waiting for more."""
        self.socket.setblocking(False)
        try:
            while not self._ended:
                data = self.socket.recv(4096)
                self.received += data
                self._ended = not data
        except BlockingIOError:
            pass  # nothing more has arrived
        except ConnectionResetError:
            self._ended = self.was_reset = True

    @property
    def answered(self):
        """Whether any byte of an answer has come."""
        self.receive_available()
        return bool(self.received)

    @property
    def ended(self):
        """Whether the server has ended the connection (its FIN or RST has come)."""
        self.receive_available()
        return self._ended

    def wait_for_answer(self):
        """Wait until the first bytes of the answer have come.

        Raises AssertionError if they do not, or the connection ends without any.
        """

        def seen():
            if self.ended and not self.received:
                raise AssertionError(mismatch("the connection ends without an answer", "one"))
            return self.answered

        wait_until(seen, "the first bytes of the answer come", self.allow)

    def wait_for_end(self):
        """Wait until the server has closed the connection. Returns all that came.

        Raises AssertionError if it does not.
        """
        wait_until(lambda: self.ended, "the connection is ended by the server", self.allow)
        return self.received

    def close(self):
        """Close it (close(2)): the server gets an end of file."""
        self.socket.close()

    def finish_sending(self):
        """Send nothing more: the server reads an end of file (shutdown(2))."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Break the connection off, with a RST (socket(7), SO_LINGER of 0 seconds)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def body_of(answer):
    """The body of an answer of HTTP, as curl would print it (RFC 9112, section 2).

    Raises AssertionError if the answer has no status line or no end of its head, or says
    another length of the body.
    """
    head, end, body = answer.replace(b"\r\n\r\n", b"\n\n", 1).partition(b"\n\n")
    status = re.match(rb"HTTP/1\.[01] \d{3}[ \r\n]", head + b"\n")
    assert status, mismatch(
        f"the answer starts with {answer[:30]!r}", "a status line such as HTTP/1.1 200 OK"
    ) + "\nHint      The first byte of the answer is the H of HTTP/1.1: no blank, no line before it."
    assert end, mismatch(
        f"the answer is {answer!r}", "an empty line between its head and its body"
    ) + "\nHint      The head ends with an empty line: \\r\\n\\r\\n."
    said = re.search(rb"\ncontent-length: *(\d+)", head.lower())
    length = f"Content-Length: {len(body)}, or none"
    assert not said or int(said[1]) == len(body), mismatch(f"the answer is {answer!r}", length)
    return body


class Attempt:
    """An attempt to connect to a port of 127.0.0.1 that need not succeed."""

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def wait_until_kept_waiting(self):
        """Wait until the kernel has asked again and is not connected all the same.

        It asks again when there is no reply for a second (RFC 6298). Seen in the
        first bytes of struct tcp_info (tcp(7)): the state, 2 being SYN_SENT, something
        else, and the number of retransmissions. Linux only.
        """

        def seen():
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 3)
            state, _, retransmissions = info
            assert state == 2, mismatch("it was established or refused", "neither")
            return retransmissions > 0

        wait_until(seen, "the kernel repeats its SYN")

    def close(self):
        """Give it up."""
        self.socket.close()
