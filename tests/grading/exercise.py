"""The application that a graded 3h serves. It asks little of its server: a status, a field, a body.

It lies in a folder that is no package: any server finds it as exercise:app, by PYTHONPATH=tests/grading.
"""

import os
import tempfile
import time


def app(environ, start_response):
    """Greet. With a folder as its query, answer only when 20 clients are here at the same time.

    Each of them leaves a file in the folder, by which the others count.
    """
    folder = environ.get("QUERY_STRING")
    if folder:
        tempfile.mkstemp(dir=folder)
        while len(os.listdir(folder)) < 20:
            time.sleep(0.003)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Exercise", "yes")])
    return [b"You asked for ", environ["PATH_INFO"].encode("latin-1"), b"\n"]
