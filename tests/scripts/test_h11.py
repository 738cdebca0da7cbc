"""h11 judges the same bytes as webserver3i.py's reader: RFC 9112 as another author reads it.

3i refuses what h11 refuses, and reads what both accept as h11 does. Where 3i is stricter, LENIENT says why.
"""

import itertools
import json
import random
import re
import urllib.parse

import pytest
from application_server import whole_answer
from packages import installed

pytestmark = pytest.mark.slow
EACH = 6  # requests with each fault, and as many with each and another one
SEED = 9112  # the same requests each time

RIGHT = {  # the parts of a request; {} is a length
    "before": [b"", b"", b"\r\n"],
    "method": [b"GET", b"POST", b"M-SEARCH", b"get"],
    "gap": [b" "],
    "target": [b"/mirror", b"/mirror/%41%2f?a=b&c=%20", b"/mirror?", b"http://there:81/mirror?x", b"//mirror/a?b?c"],
    "version": [b"HTTP/1.1"],
    "end": [b"\r\n"],
    "host": [b"Host: here", b"HOST:here:80", b"host: \t[::1]:8080 "],
    "field": [b"X-A: b", b"x-a:  c\td \t", b"x-a:", b"Cookie: a=1", b"Cookie: b=2", b"X-!#$: \xe4\xff", b"X_A: no"],
    "length": [b"Content-Length: {}", b"content-length:00{}\t"],
    "coding": [b"Transfer-Encoding: chunked", b"TRANSFER-encoding:CHUNKED"],
    "size": [b"{}", b"00{}", b"{};a=b", b'{};a="b\\"";c'],
    "after chunk": [b"\r\n"],
    "trailer": [b"", b"X-T: 1\r\n"],
    "body": [b"", b"body", b"\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))],
}
WRONG = {
    "before": [b"\n", b" ", b"\0", b"\r\n" * 12],
    "method": [b"", b"G(T", b"G\xe4T", b"GET:", b"CONNECT"],
    "gap": [b"  ", b"\t", b"", b"\x0b"],
    "target": [b"mirror", b"/mi rror", b"/\xe4", b"/\x7f", b"*", b"/mirror#x", b"/%4", b"http:///mirror", b"/mirror\t"],
    "version": [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b"HTTP/1", b""],
    "end": [b"\n", b"\r", b"\r\r\n", b" \r\n", b"\r\n ", b"\r\n\r\n"],
    "host": [b"X: y", b"Host: a\r\nHost: a", b"Host: he re", b"Host: a/b", b"Host: [::", b"Host : here"],
    "field": [
        b"X A: b",
        b"X-A : b",
        b": b",
        b"X-A",
        b"X-A: a\0b",
        b"X-A: a\rb",
        b"X-A: a\x0bb",
        b"X-A: \x01",
        b"\tX: y",
    ],
    "length": [b"Content-Length: " + value for value in (b"+{}", b"0x{}", b"-{}", b"{} 9", b"", b"{}, {}", b"{}, 9")]
    + [b"Content-Length: {}\r\nContent-Length: {}", b"Content-Length: {}\r\nContent-Length: 9", b"Content-Length : {}"],
    "coding": [b"Transfer-Encoding: " + value for value in (b"gzip", b"x, chunked", b"chunked, chunked", b"", b"x")]
    + [b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"Transfer-Encoding : chunked"],
    "size": [b"0x{}", b"+{}", b"-{}", b"{} g", b"", b" {}", b"{} ", b"{};a=\0", b"{};;", b"{},", b"{}\r"],
    "after chunk": [b"", b"\n", b"\r", b"x\r\n", b"\r\n\r\n"],
    "trailer": [b"X T: 1\r\n", b"X-T\r\n", b": 1\r\n", b"X-T: \0\r\n"],
    "cut": [b""],  # the request ends early
}
CHUNKED = {"coding", "size", "after chunk", "trailer"}
FAULTS = [(part, text) for part in WRONG for text in WRONG[part]]

# What h11 accepts and 3i refuses: the reason that 3i gives, and what is in the request then.
LENIENT = {
    "a line ends with CR LF, not LF alone: nc -C (macOS: nc -c)": rb"[^\r]\n",
    "not a request line, such as GET /hello HTTP/1.1": rb"/mirror#x ",  # a fragment is not for servers
    "this is HTTP/1.1": rb"HTTP/2\.0",
    "this is not a proxy": rb"CONNECT ",
    "not a path": rb" (mirror|\*|http:///mirror) ",
    "a % without two hexadecimal digits: a URI writes it as %25": rb"/%4 ",
    "no Host": rb"HTTP/1\.2",
    "not a host": rb"he re|a/b|\[::\r",
    "not a header field": rb"\n[ \t]|\x01",  # a folded line, a control character
    "not a length": rb"Content-Length: (\d+), \1\r",
    "content-length comes twice": rb"Content-Length: (\d+)\r\nContent-Length: \1\r",
    "a length and a transfer coding": rb"chunked\r\nContent-Length: ",
    "a transfer coding in HTTP/1.0": rb"HTTP/1\.0",
    "not the size of a chunk": rb"[ \r]\r\n|;a=\0|;;",  # a blank behind it, or no extension
}


def generate(source, faults):
    """A request. Of each part in faults, a dict, the first or a later occurrence is that text."""

    def pick(part):
        wrong = part in faults and source.random() < 1 / 2
        return faults.pop(part) if wrong else source.choice(RIGHT[part])

    def sized(part, size):
        return pick(part).replace(b"{}", size.encode())

    # A fault that only one framing has room for decides it.
    chunked = source.choice(["length" not in faults, bool(CHUNKED & faults.keys())])
    line = pick("method") + pick("gap") + pick("target") + pick("gap") + pick("version")
    fields, body = [pick("host"), *(pick("field") for _ in range(source.randrange(4)))], pick("body")
    if chunked:
        fields.append(pick("coding"))
        chunks = [body[start : start + 11] for start in range(0, len(body), 11)]
        chunks = [sized("size", f"{len(chunk):x}") + pick("end") + chunk + pick("after chunk") for chunk in chunks]
        body = b"".join(chunks) + sized("size", "0") + pick("end") + pick("trailer") + pick("end")
    elif body or "length" in faults:
        fields.append(sized("length", str(len(body))))
    source.shuffle(fields)
    head = b"".join(part + pick("end") for part in [line, *fields, b""])
    request = pick("before") + head + body
    return request[: -source.randrange(1, 9)] if "cut" in faults else request


def by_h11(h11, request):
    """A request as h11 reads it: its method, path, query, fields as WSGI names them, and body. None if refused."""
    connection = h11.Connection(h11.SERVER)
    # h11 takes no empty lines before a request. A server should (RFC 9112, 2.2), and 3i takes eight.
    connection.receive_data(re.sub(rb"^(\r\n){1,8}", b"", request))
    connection.receive_data(b"")  # the end
    head, body = None, b""
    try:
        while type(event := connection.next_event()) is not h11.EndOfMessage:
            if type(event) is h11.Request:
                head = event
            elif type(event) is h11.Data:
                body += event.data
            else:
                return None  # the request ends early
    except h11.RemoteProtocolError:
        return None
    host, target = re.fullmatch("(?:http://([^/?]+))?(.*)", head.target.decode()).groups()
    path, _, query = target.partition("?")
    fields = wsgi_fields(head.headers, body)
    if host:  # it goes before the field (RFC 9112, 3.2.2)
        fields["HTTP_HOST"] = host
    return head.method.decode(), urllib.parse.unquote(path, "latin-1"), query, fields, body


def wsgi_fields(headers, body):
    """h11's header fields as WSGI names them (PEP 3333). A body in chunks has a length."""
    fields = {}
    for name, value in headers:
        name, value = name.decode().upper(), value.decode("latin-1")
        if name == "TRANSFER-ENCODING":
            name, value = "CONTENT-LENGTH", str(len(body))
        if "_" not in name:
            name = ("" if name == "CONTENT-LENGTH" else "HTTP_") + name.replace("-", "_")
            fields[name] = (fields[name] + ("; " if name == "HTTP_COOKIE" else ", ") if name in fields else "") + value
    return fields


def by_3i(wsgi, request):
    """A request as 3i reads it, or the reason why it refuses it."""
    client = wsgi.send(request)
    client.finish_sending()
    status, _, answer = whole_answer(client)
    client.close()
    if status != 200:
        assert 400 <= status < 500 or status in (501, 505), answer
        return answer.decode().partition(": ")[2].strip()
    environ, body = json.loads(answer)
    fields = {name: value for name, value in environ.items() if name.startswith(("HTTP_", "CONTENT_"))}
    method, path, query = (environ[name] for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING"))
    return method, path, query, fields, body.encode("latin-1")


def test_3i_reads_requests_as_h11_does(wsgi, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(installed(tmp_path / "venv", "h11"))
    import h11

    source = random.Random(SEED)
    alike, refused, wrong = 0, 0, []
    for fault, count in itertools.product(FAULTS, range(2 * EACH)):
        request = generate(source, dict([fault] if count < EACH else [fault, source.choice(FAULTS)]))
        expected, seen = by_h11(h11, request), by_3i(wsgi, request)
        if seen == expected:
            alike += 1
        elif expected is None and isinstance(seen, str):
            refused += 1
        elif not isinstance(seen, str) or not re.search(LENIENT.get(seen, b"$^"), request):
            wrong.append((request, expected, seen))
    assert not wrong, "\n\n" + "\n\n".join("\n".join(map(repr, one)) for one in wrong[:5])
    assert alike > 200
    assert refused > 200
