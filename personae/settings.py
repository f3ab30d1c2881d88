"""
Settings: a section of params.yaml and the command line become one typed model.

Precedence: command line, then `params.yaml`, then the default of the field. Without a
`params.yaml` the defaults hold, so the installed commands run in any folder.
"""

import argparse
import difflib
import importlib.util
import pkgutil
import re
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from yaml.nodes import MappingNode, Node

from personae.errors import BadParams, PersonaeError

ModelT = TypeVar("ModelT", bound=BaseModel)

DEFAULT_PATH: Final = Path("params.yaml")
# A file of parameters has a few kB. The limits stop a file that was made to exhaust the memory.
_MOST_BYTES = 1 << 20
_MOST_ALIASES = 16
RUN_NAME: Final = re.compile(r"\w[\w-]*")
"""A name of a run: DVC reads a dot in `runs.NAME` as the next level, and names a stage after it."""
_QUOTES = " YAML reads on, off, yes and no as true and false: put the word in quotes."
_NAMES = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
# Sections whose models lie elsewhere: the demo board's, and those of the runs.
_WITHOUT_MODULE: Final = ("seeds", "demo", "runs", "compare")


class Settings:
    """The sections of one file of parameters, which is read once."""

    def __init__(self, path: Path | None = None) -> None:
        """
        Reads `path`; None means `params.yaml` in the current folder, or no file if it is absent.

        Raises:
            BadParams: The named file is missing, or the file is no YAML mapping.
        """
        self.path = path or DEFAULT_PATH
        is_absent = path is None and not DEFAULT_PATH.exists()
        self._sections = {} if is_absent else _read(self.path)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """
        Returns the settings of the file that option `--params` names.

        Raises:
            BadParams: The file cannot be read, or has a section that no command knows.
        """
        settings = cls(options.params)
        settings.check_sections()
        return settings

    @classmethod
    def named_in(cls, arguments: Sequence[str]) -> Self | None:
        """
        Returns the settings of the file that an unparsed command line names, or of params.yaml.

        None where the file cannot be read: the command itself says why.
        """
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        parser.add_argument("--params", type=Path)
        try:
            return cls(parser.parse_known_args(arguments)[0].params)
        except (PersonaeError, argparse.ArgumentError):
            return None

    def values(self, name: str) -> Mapping[str, Any]:
        """Returns section `name` as the file has it, unchecked; empty if it has no such mapping."""
        values = self._sections.get(name)
        return values if isinstance(values, dict) else {}

    def check_sections(self) -> None:
        """
        Checks that every section is one that a command reads: a misspelt one would change nothing.

        The names of runs and the seeds are checked too: otherwise the first stage that trains would
        refuse them, days after a scraper has begun.

        Raises:
            BadParams: One is not, and the message lists the sections; or a run has a name that DVC
                cannot address; or as `seeds`.
        """
        known = _sections()
        for name in self._sections:
            if name not in known:
                hint = near_miss(str(name), known)
                raise BadParams(
                    f"{self.path}: '{name}' is no section.{hint} Known: {', '.join(known)}."
                )
        self.seeds()
        runs = self._sections.get("runs")
        for name in runs if isinstance(runs, dict) else ():
            if not RUN_NAME.fullmatch(str(name)):
                raise BadParams(
                    f"{self.path}: section 'runs': '{name}' cannot be the name of a run, because DVC "
                    "could not address it: write letters, digits, _ and -."
                )

    def section(
        self,
        name: str,
        model: type[ModelT],
        overrides: Mapping[str, Any] | None = None,
        *,
        own: Mapping[str, Any] | None = None,
        alone: bool = False,
    ) -> ModelT:
        """
        Returns section `name` as a validated `model`; an absent section means the defaults.

        Args:
            name: Name of the section.
            model: A pydantic model that forbids unknown keys.
            overrides: Values of the command line, which win; None marks an option not given.
            own: Values from another place of the file, which win over those of the section.
            alone: If true, `own` replaces the whole section.

        Raises:
            BadParams: A key is unknown or ill-typed; the message names the section, the key and
                the nearest known key.
        """
        values = self._sections.get(name)
        if not isinstance(values, dict | None):
            raise BadParams(
                f"Section '{name}' of {self.path} must be a mapping of names to values, "
                f"not {values!r}."
            )
        given = {key: value for key, value in (overrides or {}).items() if value is not None}
        try:
            return model(**{**({} if alone else values or {}), **(own or {}), **given})
        except ValidationError as error:
            raise BadParams(_explanation(self.path, name, model, error, given)) from error

    def seeds(self) -> list[int]:
        """
        Returns the random seeds that runs are compared over: [0] where the file has no `seeds`.

        Raises:
            BadParams: `seeds` is no list of whole numbers, is empty, repeats a seed, or has a
                negative one.
        """
        given = self._sections.get("seeds", [0])
        try:
            seeds = TypeAdapter(list[int]).validate_python(given)
        except ValidationError as error:
            problem = error.errors()[0]
            raise BadParams(f"{self.path}: 'seeds' is {given!r}: {problem['msg']}.") from error
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise BadParams(
                f"{self.path}: 'seeds' is {given!r}: it must hold at least one seed, each only once "
                "and none below 0. Write it as seeds: [0, 1, 2]"
            )
        return seeds


def add_options(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    model: type[BaseModel],
    *,
    skip: frozenset[str] = frozenset(),
    values: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """
    Gives `parser` one option per field of `model`: `min_images` becomes `--min-images`.

    A literal type becomes the choices of the option. Fields in `skip` get none. The help shows
    `values`, those of the file, beside the defaults.
    """
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        kind, choices, is_many = _option_type(field.annotation)
        default = field.get_default(call_default_factory=True)
        shown = f"{field.description or name} (default: {_default_text(default)}"
        given = _default_text(values.get(name, default))
        shown += ")" if given == _default_text(default) else f"; params.yaml: {given})"
        keywords: dict[str, Any] = {"help": shown.replace("%", "%%"), "dest": name}
        if kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif choices:
            keywords["choices"] = choices
        else:
            keywords |= {"type": kind, "metavar": kind.__name__.upper()}
        if is_many:
            keywords["nargs"] = "*"
        parser.add_argument("--" + name.replace("_", "-"), **keywords)


def overrides(options: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """Returns the values that the command line gave for fields of `model`; None for the others."""
    return {name: getattr(options, name, None) for name in model.model_fields}


def check_params_file(path: Path | None) -> None:
    """
    Checks the file that option `--params` names, for commands that read no parameter too.

    Raises:
        BadParams: It does not exist.
    """
    if path is not None and not path.exists():
        raise _absent(path)


def near_miss(word: str, known: Sequence[str], *, least: float = 0.4) -> str:
    """
    Returns " Did you mean X?" for the known word nearest to `word`, or "" if none is near.

    The space comes before the question, so that a message without one has no second space.

    Args:
        word: What was written.
        known: What could have been meant.
        least: Least similarity, from 0 (nothing in common) to 1, as `difflib` defines it.
    """
    near = difflib.get_close_matches(word, known, n=1, cutoff=least)
    return f" Did you mean '{near[0]}'?" if near else ""


def modules_in(package: str, *, packages: bool = True) -> set[str]:
    """
    Returns the names of the modules in the folder of `package`, without importing it.

    Args:
        package: Full name of a package; one that is not installed has no modules.
        packages: Whether the folders in it count as modules.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # the parent is not installed
        return set()
    folders = spec.submodule_search_locations if spec else None
    return {each.name for each in pkgutil.iter_modules(folders or []) if packages or not each.ispkg}


def _sections() -> list[str]:
    """Returns the names that a file of parameters may have; each model lies in its own module."""
    names = set(_WITHOUT_MODULE)
    for package in ("scraper", "curation", "train"):
        names |= modules_in(f"{package}.params", packages=False)
    return sorted(names)


class _Loader(yaml.SafeLoader):
    """Reads YAML as DVC does: a key that stands twice is an error. Few aliases, names as keys."""

    aliases = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > _MOST_ALIASES:
                raise yaml.YAMLError(f"more than {_MOST_ALIASES} aliases")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # as in PyYAML
        keys = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
        twice = [key for key, number in keys.items() if number > 1 and key != "<<"]
        if twice:
            raise yaml.YAMLError(f"'{twice[0]}' stands twice{node.start_mark}")
        for key, _ in node.value:
            if key.tag not in _NAMES:  # `on` is true in YAML 1.1
                value = self.construct_object(key, deep=True)
                raise yaml.YAMLError(
                    f"the key {key.value!r:.80} is no name but the value {value!r:.80}: a name "
                    f"like this needs quotes{key.start_mark}"
                )
        return super().construct_mapping(node, deep=deep)


def _absent(path: Path) -> BadParams:
    return BadParams(
        f"{path} does not exist. Name a file of parameters that exists with --params, or leave "
        "the option out to use the defaults."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        document = _parsed(text)
    except FileNotFoundError as error:
        raise _absent(path) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadParams(
            f"{path} cannot be read as YAML: {reason}. Correct the file, or restore it from git."
        ) from error
    if not isinstance(document, dict):
        raise BadParams(f"{path} must be a mapping of section names to values, not {document!r}.")
    return document


def _parsed(text: bytes) -> Any:
    if len(text) > _MOST_BYTES:
        raise yaml.YAMLError(f"it has more than {_MOST_BYTES} bytes")
    return yaml.load(text, Loader=_Loader) or {}  # noqa: S506  # a SafeLoader


def _option_type(annotation: Any) -> tuple[type, tuple[str, ...], bool]:
    """Returns type, choices and "takes several" of the option for a field's annotation."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return _option_type(next(kind for kind in inside if kind is not type(None)))
    if origin in (list, tuple, Sequence):
        kind, choices, _ = _option_type(inside[0])
        return kind, choices, True
    if origin is typing.Annotated:
        return _option_type(inside[0])
    if origin is typing.Literal:
        return str, tuple(str(choice) for choice in inside), False
    return (annotation if annotation in (int, float, bool) else str), (), False


def _default_text(value: Any) -> str:
    # Not "none", which several options have as a choice.
    if value is None:
        return "unset"
    if value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | frozenset | set):
        return " ".join(map(str, value)) or "none"
    return str(value)


def _explanation(
    path: Path, name: str, model: type[BaseModel], error: ValidationError, given: Mapping[str, Any]
) -> str:
    """Returns what is wrong, key by key; `given` are the values that the file does not hold."""
    from_options: list[str] = []
    from_file: list[str] = []
    for problem in error.errors():
        field = str(problem["loc"][0]) if problem["loc"] else ""
        key = ".".join([name, *map(str, problem["loc"])])
        value = repr(problem["input"])
        shown = value if len(value) <= 200 else value[:200] + "…"
        message = problem["msg"].removeprefix("Value error, ")
        if not field:  # the values do not go together: those of the file, of options, or of both
            options = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in given.items())
            if given:
                from_options.append(f"{options}: {message} (section '{name}').")
            else:
                from_file.append(f"Section '{name}': {message}.")
        elif problem["type"] == "extra_forbidden":
            known = list(model.model_fields)
            hint = near_miss(field, known) or f" Known: {', '.join(known)}."
            from_file.append(f"'{key}' is not a parameter.{hint}")
        elif field in given:
            from_options.append(f"--{field.replace('_', '-')} is {shown}: {message}.")
        else:
            is_word = problem["type"] in ("string_type", "literal_error")
            hint = _QUOTES if is_word and isinstance(problem["input"], bool) else ""
            from_file.append(f"'{key}' is {shown}: {message}.{hint}")
    if from_file:
        from_file[0] = f"{path}: {from_file[0]}"
    return " ".join([*from_options, *from_file])
