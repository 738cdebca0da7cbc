"""The application that servers with WSGI or ASGI serve in the benchmark, and gunicorn's settings.

Type    python3 ../webserver3h.py application:wsgi      in one terminal, in this folder,
        curl -i localhost:8888/hello                    in another.
Expect  The stages' answer.
"""

BODY = b"Hello, World!\n"
FIELDS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))]

# gunicorn's settings. It ignores names that its version does not know.
accesslog = "-"  # standard output
backlog = 1024  # as many as the stages let wait
keepalive = 0  # as ours: one request for each connection
control_socket_disable = True  # or two servers would share one file


def wsgi(environ, start_response):
    start_response("200 OK", FIELDS)
    return [BODY]


async def asgi(scope, receive, send):
    headers = [(name.lower().encode(), value.encode()) for name, value in [*FIELDS, ("Connection", "close")]]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
