"""Faults of a server of applications that 3h's claims must find. See mutants.py."""

# Set by hand, as mutants.py is.
# fmt: off
TABLE = [
    ("3h", "always says 200", "f\"HTTP/1.1 {status}\", *lines", "\"HTTP/1.1 200 OK\", *lines",
     "Each request gets its own status and header fields."),
    ("3h", "sends no fields", "for name, value in [*fields, (", "for name, value in [(",
     "The status, the header fields and the body are the application's."),
    ("3h", "a path of bytes", 'unquote(path, "latin-1")', "unquote_to_bytes(path)",
     "environ says what was asked, in strings."),
    ("3h", "no names of header fields", 'name = f"HTTP_{name}"', "pass", "environ says what was asked, in strings."),
    ("3h", "sends the head too early", "        pieces = application(environ, start_response)\n",
     "        pieces = application(environ, start_response)\n        write(b'')\n",
     "An application may be a generator: start_response is called when its first piece is asked for."),
    ("3h", "joins the pieces", "for data in pieces:", "for data in [b''.join(pieces)]:",
     "Each piece of the answer is sent at once, and does not wait for the next."),
    ("3h", "closes nothing", "            pieces.close()\n", "            pass\n",
     "What the application returns is closed in the end."),
    ("3h", "closes only what has not failed", "            traceback.print_exc()\n", "            pieces = None\n",
     "What the application returns is closed in the end."),
    ("3h", "one recv", 'client_connection.makefile("rb")  #', "io.BytesIO(client_connection.recv(64 * 1024))  #",
     "A request may come in parts."),
    ("3h", "one recv for the body", "body = file.read(length)", "body = file.read1(length); length = 0",
     "The application can read all of a request's body."),
    ("3h", "reads no body", "body = file.read(length)", "body = bytes(length)",
     "A client gets its answer, even if the application does not read its body."),
    ("3h", "a child that fails becomes a second parent", "            traceback.print_exc()\n",
     "            serve_forever(client_connection, application)\n",
     "An application that fails in the midst of its answer harms only its own client."),
    ("3h", "an application that fails ends its server", "            traceback.print_exc()\n",
     "            os.kill(os.getppid(), signal.SIGKILL)\n",
     "An application that fails in the midst of its answer harms only its own client."),
    ("3h", "iterative after all", "too.\n        client_connection.close()\n",
     "too.\n        client_connection.close()\n        signal.pause()\n",
     "A client that connects and says nothing holds up nobody."),
    ("3h", "one at a time in the application", "        pieces = application(environ, start_response)\n",
     "        import fcntl\n"
     "        lock = open(__file__)\n"
     "        fcntl.flock(lock, fcntl.LOCK_EX)\n"
     "        pieces = application(environ, start_response)\n",
     "20 requests are in the application at the same time, and all are answered."),
    ("3h", "no handler", "signal.signal(signal.SIGCHLD, grim_reaper)", "pass",
     "After 100 requests no child, no zombie and no descriptor is left."),
    ("3h", "the parent forgets a close", "too.\n", "too.\n        os.dup(client_connection.fileno())\n",
     "After 100 requests no child, no zombie and no descriptor is left."),
    ("3h", "the parent looks at each client", "            pid = os.fork()\n",
     "            client_connection.getpeername() if client_connection.recv(1, socket.MSG_PEEK) else sys.exit()\n"
     "            pid = os.fork()\n",
     "A client that leaves without a word, or resets, does no harm."),
]
# fmt: on
