"""What counts as the same output in another run: other PIDs, versions and times, but the same relations."""

import pytest
from pages.matching import match

PS = "10154 10001 S+ python3"
SAME = [
    (PS, "7 1 S+ python3"),
    (PS, "1234567  1000001 SN+  python3"),
    (PS, "7 1 S<+ python3"),
    ("User-Agent: curl/7.88.1\\r", "User-Agent: curl/8.18.0-rc2\\r"),
    ("/dev/pts/1", "/dev/ttys004"),
    ("200 14 bytes 1 ms", "200 14 bytes 21017 ms"),
    ("4 of 1024 descriptors:", "4 of 1048576 descriptors:"),
    ("accept(3, …) = 4", "accept(3, {sa_family=AF_INET}, [16]) = 4"),
    ("10101 is not 10102\n10102 it is", "5 is not 6\n6 it is"),
    ("PID 10101, port 40000", "PID 45000, port 45000"),
    ("first\n…\nlast", "first\nlast"),
    ("first\n…\nlast", "first\nsecond\nthird\nlast"),
]
DIFFERENT = [
    (PS, "7 1 SN python3"),
    (PS, "7 1 ZN+ python3"),
    ("User-Agent: curl/7.88.1\\r", "User-Agent: wget/7.88.1\\r"),
    ("(0, 0)", "(4711, 0)"),
    ("(80, 25)", "(443, 25)"),
    ("Parent PID: 101", "Parent PID: 102"),
    ("Parent PID: 10101", "Parent PID: pts/1"),
    ("4 of 4 descriptors:", "4 of 5 descriptors:"),
    ("10101 is not 10102", "5 is not 5"),
    ("10101 is 10101", "5 is 6"),
    ("10101 is not 10102\n10102 it is", "5 is not 6\n5 it is"),
    ("pts/1 is not pts/2", "pts/3 is not pts/3"),
    ("one", "one\nanother"),
    ("one\nanother", "one"),
    ("one\nanother", "another\none"),
    ("first\n…\nlast", "first\nlast\nthe very last"),
]


@pytest.mark.parametrize(
    "expected, seen, same", [(*pair, True) for pair in SAME] + [(*pair, False) for pair in DIFFERENT]
)
def test_another_run_matches(expected, seen, same):
    assert (match(expected.split("\n"), seen.split("\n"), {}) is not None) == same


def test_lines_match_in_any_order():
    values = match(["10101 a", "10102 b"], ["6 b", "5 a"], {}, any_order=True)
    assert values == {"10101": "5", "10102": "6"}
    assert match(["10101 a", "10101 b"], ["6 b", "5 a"], {}, any_order=True) is None
