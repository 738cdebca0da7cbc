"""Stage 3a: an iterative server serves one client at a time."""


def test_curl_prints_the_answer_and_ends(serve):
    curl = serve().curl("/hello")
    assert curl.wait() == 0
    assert curl.output != ""


def test_any_path_gets_the_same_answer(serve):
    server = serve()
    answers = [server.ask(path).wait_for_end() for path in ("/hello", "/", "/a/b?c=d")]
    assert answers[0] != b""
    assert answers == [answers[0]] * 3


def test_request_is_printed(serve):
    server = serve()
    server.ask("/some/path").wait_for_end()
    assert "GET /some/path HTTP/1.1" in server.output


def test_clients_are_served_one_after_the_other(serve):
    server = serve()
    for _ in range(3):
        server.ask().wait_for_end()


def test_silent_client_holds_up_the_next_one(serve):
    server = serve()
    server.connect()  # and says nothing
    second = server.ask()
    server.wait_until_queued(1, unless=second)
    assert not second.answered


def test_next_client_is_served_when_the_silent_one_leaves(serve):
    server = serve()
    silent = server.connect()
    second = server.ask()
    server.wait_until_queued(1, unless=second)
    silent.close()
    assert second.wait_for_end() != b""
