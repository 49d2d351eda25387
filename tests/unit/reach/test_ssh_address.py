"""Where a board is: the file's `host`, PRESSBENCH_HOST, and what is refused."""

from __future__ import annotations

import pytest

from bench.config.target import load_target
from bench.errors import InvalidInput
from bench.reach.ssh.address import find_address, parse_address


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("pi@raspberrypi.local", "pi", "raspberrypi.local", 0),
        ("jetson", "", "jetson", 0),
        ("u-1.x@10.0.0.7:2222", "u-1.x", "10.0.0.7", 2222),
        ("me@[fe80::1%eth0]:22", "me", "fe80::1%eth0", 22),
    ],
)
def test_an_address_is_read_and_written_back(text, user, host, port):
    found = parse_address(text, "here")
    assert (found.user, found.host, found.port) == (user, host, port)
    assert str(found) == text


@pytest.mark.parametrize("text", ["-oProxyCommand=x", "a b", "a;b", "a@-b", "", "a@", "$(x)", "a:0", "a:70000", "a\n"])
def test_what_a_shell_or_an_option_parser_could_read_is_refused(text):
    with pytest.raises(InvalidInput, match="is not user@host"):
        parse_address(text, "here")


def test_no_address_names_both_ways_to_give_one():
    with pytest.raises(InvalidInput, match=r'Set PRESSBENCH_HOST=user@host, or write host = "user@host"'):
        find_address("jetson", "", {})


def test_the_variable_and_the_file_must_agree():
    assert str(find_address("t", "a@b", {"PRESSBENCH_HOST": "a@b"})) == "a@b"
    assert str(find_address("t", "", {"PRESSBENCH_HOST": "a@b"})) == "a@b"
    with pytest.raises(InvalidInput, match="its file has host = 'a@b', PRESSBENCH_HOST is 'c@d': leave one out"):
        find_address("t", "a@b", {"PRESSBENCH_HOST": "c@d"})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('host = "a@b"', "key 'host' is for reach = \"ssh\", here it is 'local': leave it out"),
        ('python = "python3.11"', "key 'python' is for reach"),
        ('reach = "ssh"\nfolder = "here"', "key 'folder': a path on the board that begins with / or ~"),
        ('reach = "ssh"\nroot = "a\\u0000b"', "key 'root': .* has a sign that no path or name has"),
    ],
)
def test_keys_of_boards_are_checked_by_name(tmp_path, lines, words):
    path = tmp_path / "t.toml"
    path.write_text(f'name = "t"\n{lines}\n[[backend]]\nname = "ort"\n')
    with pytest.raises(InvalidInput, match=words):
        load_target(str(path))


@pytest.mark.parametrize("name", ["jetson", "rpi5", "rpi4", "ssh-example"])
def test_a_shipped_board_needs_its_address_and_nothing_else(name):
    target = load_target(name)
    assert target.reach == "ssh"
    assert not target.host
    assert str(find_address(target.name, target.host, {"PRESSBENCH_HOST": "me@board"})) == "me@board"
