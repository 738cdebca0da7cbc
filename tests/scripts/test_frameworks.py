"""Applications as the frameworks' own first pages show them, served by both servers of applications."""

import subprocess
import sys

import pytest
from application_server import ApplicationServer, whole_answer
from packages import installed

pytestmark = pytest.mark.slow

FLASK = """
from flask import Flask

app = Flask(__name__)

@app.route("/")
def hello_world():
    return "<p>Hello, World!</p>"
"""
BOTTLE = """
from bottle import default_app, route, template

@route("/hello/<name>")
def index(name):
    return template("<b>Hello {{name}}</b>!", name=name)

app = default_app()
"""
FALCON = """
import falcon

class QuoteResource:
    def on_get(self, req, resp):
        resp.media = {"quote": "I've always been more interested in the future than in the past."}

app = falcon.App()
app.add_route("/quote", QuoteResource())
"""
PYRAMID = """
from pyramid.config import Configurator
from pyramid.response import Response

def hello_world(request):
    return Response("Hello World!")

with Configurator() as config:
    config.add_route("hello", "/")
    config.add_view(hello_world, route_name="hello")
    app = config.make_wsgi_app()
"""
PAGES = {  # a text, a path, and what the answer has in it
    "flask": (FLASK, "/", b"<p>Hello, World!</p>"),
    "bottle": (BOTTLE, "/hello/World", b"<b>Hello World</b>!"),
    "falcon": (FALCON, "/quote", b"more interested in the future"),
    "pyramid": (PYRAMID, "/", b"Hello World!"),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("frameworks") / "venv", *PAGES, "django")


@pytest.fixture(params=["3h", "3i"])
def serve_application(request, start, packages, tmp_path):
    """serve_application(name) starts each server for an application in tmp_path."""
    options = {"stage": request.param, "cwd": tmp_path, "env": {"PYTHONPATH": str(packages)}}
    return lambda name: start(ApplicationServer, application=name, **options)


@pytest.mark.parametrize("framework", PAGES)
def test_first_page(serve_application, tmp_path, framework):
    text, path, expected = PAGES[framework]
    (tmp_path / "first_page.py").write_text(text, encoding="utf-8")
    server = serve_application("first_page:app")
    status, _, body = whole_answer(server.ask(path))
    assert status == 200
    assert expected in body
    assert "Traceback" not in server.errors


def test_first_page_of_django(serve_application, packages, tmp_path):
    command = [sys.executable, "-m", "django", "startproject", "mysite", tmp_path]
    subprocess.run(command, env={"PYTHONPATH": str(packages)}, check=True)
    server = serve_application("mysite.wsgi:application")
    status, _, body = whole_answer(server.ask("/"))
    assert status == 200
    assert b"The install worked successfully! Congratulations!" in body
    assert "Traceback" not in server.errors
