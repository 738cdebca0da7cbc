"""Notice when a reader has saved, and nothing else: for practise3.py. Standard library only."""

import itertools
import os
import select
import time

# Besides the file itself, files that end so are watched: not those that editors, compilers and servers write
SOURCES = (
    *(".py", ".js", ".pl", ".rb", ".php", ".lua", ".tcl", ".java", ".c", ".h", ".go", ".rs", ".cc", ".cpp", ".hpp"),
    *(".mjs", ".ts", ".kt", ".scala", ".clj", ".cs", ".fs", ".hs", ".ml", ".ex", ".erl", ".zig", ".swift", ".d"),
    *(".nim", ".jl", ".lisp", ".scm", ".rkt", ".pas", ".adb", ".f90", ".sh", ".cr", ".dart", ".vala", ".groovy"),
)
FOLDERS = 100  # that are watched, at the most


class Saved(Exception):
    """A source has changed while the server was graded."""


class Sources:
    """The file of a server, or its folder, and the sources beside and below it, of which each save is noticed.

    But not of those that change when nobody saves: the server may write them, or what compiles it.
    """

    def __init__(self, path):
        self.path = path
        self.folder = path if os.path.isdir(path) else path.parent
        self.suspects, self.ignored = set(), set()
        self.states = self.look()

    def __str__(self):
        others = "the sources in its folder and below" if self.path != self.folder else "its sources"
        return f"Watching {self.path}{' and ' if self.path != self.folder else ': '}{others}."

    def look(self):
        """The time of the last change, the size and the inode of each, by path."""
        files = [self.path] if self.path != self.folder else []
        for folder, below, names in itertools.islice(os.walk(self.folder), FOLDERS):
            below[:] = [name for name in below if name[0] not in "._" and name != "node_modules"]
            files += [os.path.join(folder, name) for name in names if name.endswith(SOURCES) and name[0] != "."]
        found = {}
        for file in files:
            try:
                state = os.stat(file)
            except OSError:
                continue  # an editor replaces it, or there is none yet
            found[os.path.realpath(file)] = state.st_mtime_ns, state.st_size, state.st_ino
        return found

    def changed(self):
        """The paths that have changed since the last call, or since the start."""
        before, self.states = self.states, self.look()
        paths = {path for path, _ in before.items() ^ self.states.items()}
        return paths - self.ignored

    def check(self):
        """Raise Saved if something has been saved; to be called while the server is graded."""
        paths = self.changed()
        if not paths:
            return
        again = paths & self.suspects - {os.path.realpath(self.path)}
        self.suspects = paths
        for path in again:
            self.ignored.add(path)
            print(f"\n{path} changes whenever your server starts. It is watched no longer.")
        if paths - again:
            raise Saved

    def wait(self, typed=None):
        """Wait until something is saved, or a line is typed at the terminal `typed`. Returns whether it was typed."""
        self.suspects = set()
        while not self.changed():
            if not typed:
                time.sleep(0.2)
            elif select.select([typed], [], [], 0.2)[0]:
                if typed.readline():
                    return True
                typed = None  # its end
        return False
