"""Tests the option `--engine`: its default comes from the environment, and a wrong name is explained."""

import argparse

import pytest

from personae import cli, engine


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({}, [], "local"),
        ({"PERSONAE_ENGINE": ""}, [], "local"),
        ({"PERSONAE_ENGINE": "ray"}, [], "ray"),
        ({"PERSONAE_ENGINE": "ray"}, ["--engine", "local"], "local"),
        ({}, ["--engine", "ray"], "ray"),
    ],
)
def test_the_command_line_wins_over_the_environment(environment, arguments, expected) -> None:
    """The engine is that of the option, else of the environment, else local."""
    parser = argparse.ArgumentParser()
    engine.add_option(parser, environment=environment)

    assert expected == parser.parse_args(arguments).engine


@pytest.mark.parametrize("arguments", [[], ["--engine", "spark"]])
def test_an_unknown_engine_is_wrong_usage(arguments, capsys) -> None:
    """A wrong name ends with exit code 2, wherever it comes from."""
    parser = cli.Parser()
    engine.add_option(parser, environment={"PERSONAE_ENGINE": "spark"})
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)

    assert 2 == caught.value.code
    assert "'spark' is no engine: write local or ray" in capsys.readouterr().err
