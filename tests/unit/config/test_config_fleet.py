"""A fleet file: what is wrong in it is named by file and key before a board is asked for."""

from __future__ import annotations

import re

import pytest

from bench.config import fleet as fleet_config
from bench.config.fleet import LabPlace, load_fleet, spread_over
from bench.config.target import load_target
from bench.errors import InvalidInput

ONE = '[boards.a]\nsku = "orin"\ntarget = "jetson"\nhost = "me@a"\n'
LAB = '[labgrid]\ncoordinator = "lab:20408"\n'
TWO = f'{ONE}[boards.b]\nsku = "orin"\ntarget = "jetson"\nhost = "b:2222"\ntags = ["desk", "fan"]\n'


def load(folder, text):
    (folder / "fleet.toml").write_text(text)
    return load_fleet(folder / "fleet.toml")


def test_boards_of_a_sku_are_its_targets_with_their_own_address(tmp_path):
    fleet = load(tmp_path, f'{TWO}python = "/opt/py"\n[boards.c]\nsku = "pi"\ntarget = "rpi5"\nhost = "c"\n')
    one, two = fleet.of("orin")
    assert (one.target.host, two.target.host) == ("me@a", "b:2222")
    assert (one.target.python, two.target.python) == ("python3", "/opt/py")
    assert one.target.name == two.target.name == "jetson"
    assert one.target.meters == load_target("jetson").meters
    assert fleet.targets == {"orin": "jetson", "pi": "rpi5"}
    assert [board.name for board in fleet.of("orin", ("fan",))] == ["b"]


@pytest.mark.parametrize("coordinator", ["lab:20408", "10.0.0.2:1", "[fe80::1]:65535"])
def test_a_board_has_its_place_of_labgrid_and_one_without_has_none(tmp_path, coordinator):
    fleet = load(tmp_path, f'{LAB}{TWO}place = "desk/orin-2"\n'.replace("lab:20408", coordinator))
    assert [board.lab for board in fleet.boards] == [None, LabPlace(coordinator=coordinator, name="desk/orin-2")]


def test_boards_are_the_devices_of_the_spread_target_and_no_board_is_its_host(tmp_path):
    fleet = load(tmp_path, TWO)
    spread = spread_over(fleet.boards[0].target, fleet.of("orin"))
    assert spread.devices == ("a", "b")
    assert spread.host == ""


def test_a_target_file_lies_beside_the_fleet_file(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "mine.toml").write_text('name = "mine"\nreach = "ssh"\n[[backend]]\nname = "ort"\n')
    monkeypatch.chdir(tmp_path)
    fleet = load(tmp_path / "lab", ONE.replace("jetson", "mine.toml"))
    assert fleet.boards[0].target.name == "mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "key 'boards' is missing"),
        ("[boards]\n", r"key 'boards' is empty: add \[boards.NAME\]"),
        (ONE.replace("sku", "SKU"), r"unknown key 'boards.a.SKU' \(known keys: benchmark_model, folder"),
        (f'{ONE}tag = ["x"]\n', "unknown key 'boards.a.tag', did you mean 'tags'"),
        (ONE.replace('sku = "orin"\n', ""), "key 'boards.a.sku' is missing"),
        (ONE.replace('"orin"', "3"), "key 'boards.a.sku': text in quotes, found 3"),
        (ONE.replace('"orin"', '"an orin"'), "key 'boards.a.sku': a name of letters, digits"),
        (ONE.replace("boards.a", 'boards."a b"'), "'boards.a b': a name of letters"),
        (ONE.replace("jetson", "jetsn"), "key 'boards.a.target': unknown target 'jetsn'; did you mean 'jetson'"),
        (ONE.replace("jetson", "cpu"), "key 'boards.a.target': 'cpu' is reached by 'local': a fleet is of boards"),
        (ONE.replace('host = "me@a"', ""), "key 'boards.a.host' is missing"),
        (f'{ONE}serial = "x"\n', "key 'boards.a.serial' is for reach = \"adb\", its target is 'ssh'"),
        (f'{ONE}folder = "x"\n', "key 'boards.a.folder': a path on the board that begins with / or ~, found 'x'"),
        (f'{ONE}python = "x\\ny"\n', r"key 'boards.a.python': 'x\\ny' has a sign that no path"),
        (TWO.replace("b:2222", "you@A:22"), r"'boards.a' and 'boards.b' are one board \(ssh:a\): remove one"),
        (
            f'{ONE}place = "x"\n',
            r"key 'boards.a.place' is a place of labgrid: name its coordinator too, \[labgrid\] with",
        ),
        (f"{LAB}{ONE}", "key 'labgrid.coordinator': no board has the key 'place'"),
        (f'{LAB}hst = "x"\n{ONE}', r"unknown key 'labgrid.hst' \(known keys: coordinator"),
        (f"[labgrid]\n{ONE}", "key 'labgrid.coordinator' is missing"),
        (f'{LAB}{ONE}place = ""\n', "key 'labgrid.coordinator': no board has the key 'place'"),
        (f'{LAB}{ONE}place = "+token"\n', "key 'boards.a.place': a name without spaces that begins with a letter"),
        (f'{LAB}{ONE}place = "an orin"\n', "key 'boards.a.place': a name without spaces .* found 'an orin'"),
        (f"{LAB}{ONE}place = 3\n", "key 'boards.a.place': text in quotes, found 3"),
        (
            f'{LAB}{TWO}place = "x"\n'.replace('me@a"\n', 'me@a"\nplace = "x"\n'),
            "'boards.a.place' and 'boards.b.place' are both 'x'",
        ),
        (
            f'{LAB}{ONE}place = "x"\n'.replace(":20408", ""),
            "'labgrid.coordinator': \"HOST:PORT\" as of .*, found 'lab'",
        ),
        (f'{LAB}{ONE}place = "x"\n'.replace("20408", "99999"), "'labgrid.coordinator': .*, found 'lab:99999'"),
        (f'{LAB}{ONE}place = "x"\n'.replace("lab:", "--lab:"), "'labgrid.coordinator': .*, found '--lab:20408'"),
        (
            f'{ONE}[boards.b]\nsku = "orin"\ntarget = "rpi5"\nhost = "b"\n',
            "key 'boards.b.target': boards of one SKU have one target, and 'a' of SKU 'orin' has 'jetson', not 'rpi5'",
        ),
    ],
)
def test_a_wrong_fleet_names_the_file_and_the_key(tmp_path, text, words):
    with pytest.raises(InvalidInput, match=f"fleet.toml: .*{words}"):
        load(tmp_path, text)


def test_a_fleet_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(InvalidInput, match=r"fleet file .*none\.toml: no such file"):
        load_fleet(tmp_path / "none.toml")


def test_a_sku_and_tags_that_no_board_has_name_those_there_are(tmp_path):
    fleet = load(tmp_path, TWO)
    with pytest.raises(
        InvalidInput, match=r"unknown SKU of .*fleet.toml 'orion'; did you mean 'orin'\? \(known: orin\)"
    ):
        fleet.of("orion")
    words = re.escape("no board of SKU 'orin' has the tags fan, lab (tags of a: none, b: desk, fan)")
    with pytest.raises(InvalidInput, match=words):
        fleet.of("orin", ("fan", "lab"))


def test_a_target_with_devices_of_its_own_is_refused(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "mine"\nreach = "ssh"\ndevices = ["x"]\n[[backend]]\nname = "ort"\n')
    with pytest.raises(InvalidInput, match=r"'boards\..*mine\.toml: key 'devices' is for reach = .emulated"):
        load(tmp_path, ONE.replace("jetson", "mine.toml"))


def test_the_target_of_many_boards_is_read_once(tmp_path, monkeypatch):
    read, real = [], fleet_config.load_target
    monkeypatch.setattr(fleet_config, "load_target", lambda text: read.append(text) or real(text))
    path = tmp_path / "fleet.toml"
    path.write_text("".join(f'[boards.b{n}]\nsku = "orin"\ntarget = "jetson"\nhost = "b{n}.lab"\n' for n in range(5)))
    assert len(load_fleet(path).boards) == 5
    assert read == ["jetson"]
