"""Run a server in Python, held before each statement of its functions. For step3.py.

Type    python3 docs/steps/inside.py ADDRESS FILE ARGUMENT ...

Before each statement the process tells where it is, on the Unix socket with this abstract
address (unix(7)), and waits until it gets a byte. The script's file is not changed.
"""

import ast
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time

HIDDEN = 200  # our descriptors have this number or more, so that they change no other
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# There is nothing to do before what they consist of.
SILENT = (*FUNCTIONS, ast.ClassDef, ast.While, ast.Try, ast.Pass, ast.Global)


def add_steps(tree):
    """Put a call of step__ before each statement of a module's functions, and back__ at their ends.

    Functions that prepare for clients, and those that do a single thing, are left alone. Returns
    the names of the others, and of their global variables.
    """
    stepped, shared = set(), set()
    for function in [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]:
        calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
        called = {getattr(one, "attr", getattr(one, "id", "")) for one in calls}
        prepares = function.name == "main" or called & {"bind", "listen", "create_server"}
        single = len(function.body) == 1 and isinstance(function.body[0], (ast.Expr, ast.Return))
        if not single and not (prepares and not any("accept" in name for name in called)):
            stepped.add(function.name)
            for node in list(ast.walk(function)):
                shared.update(node.names if isinstance(node, ast.Global) else ())
                add_steps_to(node)
            ends = ast.Try(function.body, [], [], [call("back__", function)])
            declared = [one for one in function.body if isinstance(one, ast.Global)]
            function.body = [*declared, ast.copy_location(ends, function)]
    return stepped, shared


def add_steps_to(node):
    """Put the calls before the statements that a node consists of, once."""
    if hasattr(node, "has_steps"):  # it is in a function in a function
        return
    node.has_steps = True
    for name in ("body", "orelse", "finalbody"):
        if isinstance(getattr(node, name, None), list):
            setattr(node, name, [new for one in getattr(node, name) for new in with_step(one)])
    if isinstance(node, ast.While) and not isinstance(node.test, ast.Constant):
        step = call("step__", node.test).value  # before each test; it returns None
        node.test = ast.copy_location(ast.BoolOp(ast.Or(), [step, node.test]), node.test)


def with_step(statement):
    """A statement, after the call if it is one to be held before."""
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    silent = text or isinstance(statement, SILENT)
    return [statement] if silent else [call("step__", statement), statement]


def call(name, where):
    """A statement that calls a function, in the line of another."""
    statement = ast.parse(f"{name}()").body[0]
    for node in ast.walk(statement):
        ast.copy_location(node, where)
    return statement


class Stepper:
    """Tells where each process, thread and coroutine is, and waits there."""

    def __init__(self, address, file, stepped, shared):
        self.address, self.file, self.stepped, self.shared = "\0" + address, file, stepped, shared
        self.here = threading.local()
        self.coroutines = {None: None}

    def step(self):
        """Wait before a statement. A SIGCHLD that comes meanwhile is pending until we go on."""
        catches = callable(signal.getsignal(signal.SIGCHLD))
        while True:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD} if catches else ())
            self.tell(sys._getframe(1), waits=True)
            if not self.here.socket.recv(1):
                os._exit(1)  # the recorder is gone
            self.here.told = False
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # the handler runs in here
            if not self.here.told:
                return
            # The handler has been held at its own statements: be held at this one again.

    def back(self):
        """Tell that a function has ended, and where its caller is. Do not wait."""
        self.tell(sys._getframe(1).f_back, waits=False)

    def tell(self, frame, waits):
        """Send what the recorder shows of this thread, whose innermost frame that is."""
        if getattr(self.here, "pid", None) != os.getpid():  # a new thread, or a child of fork
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as fresh:
                fresh.connect(self.address)
                number = fcntl.fcntl(fresh, fcntl.F_DUPFD_CLOEXEC, HIDDEN)
            self.here.socket = socket.socket(fileno=number)  # closes the copy of the parent's
            self.here.pid = os.getpid()
        self.here.told = True
        stack = [one for one in callers(frame) if self.shows(one.f_code)]
        code = stack[0].f_code if stack else None
        names = code.co_varnames[code.co_argcount :] if code else ()
        message = {
            "thread": [os.getpid(), threading.get_native_id()],
            "coroutine": self.coroutine(),
            "waits": waits,
            "stack": [[one.f_code.co_name, one.f_lineno] for one in stack],
            "variables": numbers(stack[0].f_locals, names) if stack else {},
            "shared": numbers(stack[0].f_globals, self.shared) if stack else {},
        }
        self.here.socket.send(json.dumps(message).encode())

    def shows(self, code):
        """Whether a function's code is of the script, and has steps."""
        return code.co_filename == self.file and code.co_name in self.stepped

    def coroutine(self):
        """The number of the coroutine that runs, from 0; None if none does."""
        task = None
        with contextlib.suppress(KeyError, RuntimeError):  # no asyncio, or no event loop
            task = sys.modules["asyncio"].current_task()
        return self.coroutines.setdefault(task, len(self.coroutines) - 1)


def callers(frame):
    """A frame, its caller's, and so on."""
    while frame:
        yield frame
        frame = frame.f_back


def numbers(values, names):
    """Those of some variables that are whole numbers."""
    names = [name for name in sorted(names) if type(values.get(name)) is int]
    return {name: values[name] for name in names if name.strip("_")}


class Woken(Exception):
    """Ends a sleep before its time."""


def wake(signum, frame):
    raise Woken


def sleep(seconds, real=time.sleep):
    """The real sleep, but the recorder may end it, by a signal."""
    with contextlib.suppress(Woken):
        real(seconds)


def show_error(kind, error, trace):
    """Print a traceback without our own frames, which are the first two."""
    trace = trace.tb_next.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def main():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: we end with the recorder
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as from a shell's prompt
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    address, script, *arguments = sys.argv[1:]
    with open(script, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    name = os.path.basename(script)  # no traceback shows a path
    stepper = Stepper(address, name, *add_steps(tree))
    signal.signal(signal.SIGUSR2, wake)
    time.sleep = sleep
    sys.excepthook = show_error
    sys.argv, sys.path[0] = [script, *arguments], os.path.dirname(os.path.abspath(script))
    names = {"__name__": "__main__", "__file__": script}
    names.update(step__=stepper.step, back__=stepper.back)
    exec(compile(ast.fix_missing_locations(tree), name, "exec"), names)


if __name__ == "__main__":
    main()
