"""A client's end of a connection, which a test can check without being held up by it."""

import re
import socket
import struct

from harness.waiting import Patience, mismatch, wait_until


class Connection:
    """A client's connection to a port of 127.0.0.1, established when this returns.

    Its answer and its end may take `allow` seconds longer than usual. Raises OSError, such as
    ConnectionRefusedError, if it is not established.
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
        """Receive what has arrived, without waiting for more. Returns all that has come so far."""
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
        return self.received

    def answered(self):
        """Whether any byte of an answer has come. Receives what has arrived."""
        return self.receive_available() != b""

    def ended(self):
        """Whether the server has ended the connection (its FIN or RST has come). Receives what has arrived."""
        self.receive_available()
        return self._ended

    def wait_for_answer(self):
        """Wait until the first bytes of the answer have come.

        Raises AssertionError if they don't, or if the connection ends without any.
        """

        def seen():
            if self.ended() and not self.received:
                raise AssertionError(mismatch("the connection ends without an answer", "an answer"))
            return self.received

        wait_until(seen, "the first bytes of the answer come", self.allow)

    def wait_for_end(self):
        """Wait until the server has closed the connection. Returns all that came.

        Raises AssertionError if it doesn't, or if it neither answers nor closes.
        """
        wait_until(lambda: self.ended() or self.received, "the first bytes of the answer come", self.allow)
        wait_until(self.ended, "the connection is ended by the server", self.allow)
        return self.received

    def close(self):
        """Close it (close(2)): the server receives an end of file."""
        self.socket.close()

    def finish_sending(self):
        """Send nothing more: the server receives an end of file, but may still answer (shutdown(2))."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Break the connection off with a RST (socket(7), SO_LINGER of 0 seconds)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def body_of(answer):
    """The body of an HTTP answer, as curl would print it (RFC 9112, section 2).

    Raises AssertionError if the status line or the end of the head is missing, or Content-Length is wrong.
    """
    assert answer != b"", (
        mismatch("the connection ends without an answer", "an answer")
        + "\nHint      Your server has ended the connection without sending anything."
    )
    head, end, body = answer.replace(b"\r\n\r\n", b"\n\n", 1).partition(b"\n\n")
    status = re.match(rb"HTTP/1\.[01] \d{3}[ \r\n]", head + b"\n")
    assert status, (
        mismatch(f"the answer starts with {answer[:30]!r}", "a status line such as HTTP/1.1 200 OK")
        + "\nHint      The first byte of the answer is the H of HTTP/1.1: no blank, no line before it."
    )
    assert end, (
        mismatch(f"the answer is {answer!r}", "an empty line between its head and its body")
        + "\nHint      The head ends with an empty line: \\r\\n\\r\\n."
    )
    said = re.search(rb"\ncontent-length: *(\d+)", head.lower())
    length = f"Content-Length: {len(body)}, or none"
    assert not said or int(said[1]) == len(body), mismatch(f"the answer is {answer!r}", length)
    return body


class Attempt:
    """A connection to a port of 127.0.0.1 that need not be established."""

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def wait_until_kept_waiting(self):
        """Wait until the kernel has repeated its SYN, and the connection is still not established.

        It repeats it after a second without a reply (RFC 6298). The first bytes of struct tcp_info (tcp(7)) say so:
        the state, 2 being SYN_SENT, something else, and the number of retransmissions. Linux only.
        """

        def seen():
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 3)
            state, _, retransmissions = info
            assert state == 2, mismatch("it was established or refused", "neither")
            return retransmissions > 0

        wait_until(seen, "the kernel repeats its SYN")

    def close(self):
        """Give up."""
        self.socket.close()
