"""What the pages say can be followed: links, commands, recipes, names, files and make targets exist."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
from torch import nn

from bench import errors
from bench.cli import pressbench
from bench.compress.recipe import describe, parse_recipe
from bench.config.strict_toml import shipped
from bench.config.suite import PACKAGE, load_suite
from bench.models.catalogue import MODELS
from bench.types import Status
from tests.pages import PAGES, ROOT, anchors, blocks, commands, links, rows, shell_lines, spans

STEPS = {step.name: {name for name, *_ in step.arguments} for step in describe()}
DOCS = ROOT / "docs"
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@every_page
def test_every_link_inside_the_repository_leads_to_a_file_and_its_heading(page: Path) -> None:
    for name, anchor in links(page):
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), name
        if anchor:
            assert anchor in anchors(target), f"{name}#{anchor}"


@every_page
def test_every_command_line_is_one_the_command_line_takes(page: Path) -> None:
    for _, name, *arguments in commands(page):
        pressbench.commands[name].make_context(name, arguments)


@every_page
def test_every_command_named_in_the_text_has_the_options_it_is_named_with(page: Path) -> None:
    for span in spans(page):
        _, *words = span.split() if span.startswith("pressbench ") else [""]
        if words:
            command = pressbench.commands[words[0]]
            command.make_parser(click.Context(command)).parse_args(words[1:])


@every_page
def test_every_recipe_given_to_a_command_reads(page: Path) -> None:
    for words in commands(page):
        for option, value in pairwise(words):
            if option == "--recipe":
                parse_recipe("asked", value)


@every_page
def test_every_make_target_named_exists(page: Path) -> None:
    known = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {found[1] for line in [*spans(page), *shell_lines(page)] if (found := re.match(r"make ([a-z0-9-]+)", line))}
    assert named <= known


@every_page
def test_every_file_and_folder_of_the_repository_named_exists(page: Path) -> None:
    named = [
        span for span in spans(page) if re.fullmatch(r"(?:bench|backends|targets|tools|tests|docs)/[\w/.-]*", span)
    ]
    assert [name for name in named if not (ROOT / name).exists()] == []


@every_page
def test_every_module_and_name_of_ours_exists(page: Path) -> None:
    wanted = [span for span in spans(page) if re.fullmatch(r"(?:bench|backends|tools)(?:\.\w+)+(?::\w+)?", span)]
    wanted += re.findall(r"python3? -m ((?:bench|backends|tools)[\w.]*)", page.read_text(encoding="utf-8"))
    assert [name for name in wanted if not _exists(name)] == []


def _exists(name: str) -> bool:
    """A module, `module:name`, or `module.name`."""
    if ":" not in name and find_spec(name.rpartition(".")[0]) and _is_module(name):
        return True
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    return _is_module(module) and hasattr(importlib.import_module(module), attribute)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_the_way_of_one_cell_names_functions_of_every_room_on_it() -> None:
    text = (
        (DOCS / "architecture.md")
        .read_text(encoding="utf-8")
        .partition("## The way of one cell")[2]
        .partition("\n## ")[0]
    )
    rooms = {name.split(":")[0].split(".")[1] for name in re.findall(r"`(bench[\w.]*:\w+)`", text)}
    assert {"cli", "line", "compress", "cost", "reach", "device", "store", "report"} <= rooms


def test_the_layers_of_the_page_are_those_that_import_linter_enforces() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("## Layers")[2].partition("\n## ")[0]
    said = [set(re.findall(r"`([\w.]+)`", line)) for line in re.findall(r"^\d+\. (.+)$", text, re.MULTILINE)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    assert said == [set(layer.split(" | ")) for layer in contract["layers"]]


def test_every_room_of_bench_is_on_the_page() -> None:
    rooms = {
        path.name for path in (ROOT / "bench").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    named = {
        Path(span).name for cells in rows(DOCS / "architecture.md", "room") for span in re.findall(r"`(.+?)`", cells[0])
    }
    assert rooms - {"__init__.py"} <= named


def test_every_step_has_a_row_of_the_guide_with_exactly_its_arguments() -> None:
    named = {
        cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[2]))
        for cells in rows(DOCS / "recipes.md", "step")
        if len(cells) == 4
    }
    assert named == STEPS


def test_every_recipe_the_guide_writes_out_reads() -> None:
    called = [span for span in spans(DOCS / "recipes.md") if re.match(r"\w+\(", span) and "..." not in span]
    written = [span for span in called if span.split("(")[0] not in MODELS]
    assert len(written) > 15
    for text in written:
        parse_recipe("written", text)


def test_every_chain_of_the_guide_is_in_the_suite_it_names() -> None:
    chains = rows(DOCS / "recipes.md", "recipe")
    assert chains
    for recipe, suite in chains:
        assert recipe.strip("`") in load_suite(suite.strip("`")).recipes.values()


def test_the_network_of_the_tutorial_has_the_parameters_its_output_shows() -> None:
    code = next(text for language, text in blocks(DOCS / "tutorial.md") if language == "python")
    names: dict[str, Any] = {}
    exec(compile(code, "mynet.py", "exec"), names)
    network = names["build"]()
    scales = sum(
        2 * part.num_features for part in network if isinstance(part, nn.BatchNorm2d)
    )  # folded by the exporter
    params = sum(parameter.numel() for parameter in network.parameters()) - scales
    assert f"{params:,}" in (DOCS / "tutorial.md").read_text(encoding="utf-8")


def test_every_status_is_explained() -> None:
    assert {cells[0].strip("`") for cells in rows(DOCS / "measuring.md", "status")} == {
        status.value for status in Status
    }


def test_every_exit_code_of_an_error_is_explained() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert {int(cells[0]) for cells in rows(DOCS / "measuring.md", "code")} == {*codes, 0, 129, 130, 143}


def test_every_dependency_and_extra_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {_package(text) for text in project["dependencies"]}
    extras = {(extra, _package(text)) for extra, texts in project["optional-dependencies"].items() for text in texts}
    page = DOCS / "dependencies.md"
    assert {cells[0] for cells in rows(page, "package")} == core
    said = {(extra, cells[1]) for cells in rows(page, "extra") for extra in re.findall(r"`(\w+)`", cells[0])}
    assert said == extras
    assert all(all(cells) for cells in [*rows(page, "package"), *rows(page, "extra")])


def _package(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement)[0]


def test_every_shipped_suite_is_there_for_the_pages_to_name() -> None:
    named = {words[words.index("--suite") + 1] for page in PAGES for words in commands(page) if "--suite" in words}
    assert named <= set(shipped(PACKAGE))
