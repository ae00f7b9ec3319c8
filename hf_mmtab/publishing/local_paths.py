"""Local paths → names, in recipes, commands and texts that others will read."""

import html
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..pretrained_packages import HUB_NAMES, PREFIX

OUTPUT = "run"  # in place of output_dir, whose name often is a customer's
_OUTPUTS = ("output_dir", "out")
_PATHS = (
    "data", "rows", "plan", "glove_path", "feature_cache_dir", "logging_dir", "resume_from_checkpoint", "deepspeed",
    "fsdp_config", "accelerator_config", "recipe",
)  # fmt: skip
_MODELS = ("pretrained", "text_model", "image_model")  # a folder or a Hub name
_SECRETS = ("hub_token", "push_to_hub_token", "run_name", "project", "trackio_space_id")
_NO_PATHS = ("sample:", "simulated:", "package:", "torchvision:", "{", "[")

_END = r"""[^\s"'`<>|,;()\[\]{}:]"""
_PATH = re.compile(
    rf"""(?<![\w/\\.~<:-])(?:(?:file:/*)?(?:[A-Za-z]:)?/(?:[^\s/"'`<>|,;()\[\]{{}}:]+/)+"""
    rf"""|[A-Za-z]:\\|\\\\[\w.-]+\\|~[/\\]|(?:\.\.?[/\\])+){_END}*"""
)
_PICTURE = re.compile(r"""(data:image/[^\s"')]+)""")  # Base64 has slashes too
_OUTPUT_SAID = re.compile(r"""(^output_dir: *|--(?:output_dir|out)[= ])("[^"\n]*"|'[^'\n]*'|[^\s<]+)""", re.M)
_SECRET_SAID = re.compile(rf"""^(?:{"|".join(_SECRETS)}):.*\n?|--(?:{"|".join(_SECRETS)})[= ][^\s<]+ ?""", re.M)


def file_name(path: str) -> str:
    """Return the last part of a path of any system; the text itself if it has no parts."""
    parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..", "~")]
    return parts[-1] if parts else path


class LocalPaths:
    """The paths of one run, and how they are told to others.

    Args:
        recipe: values of the run's recipe.
        folder: of the run; with it and the working folder a relative path is told from a name of the Hub.
    """

    def __init__(self, recipe: Mapping[str, Any] | None = None, folder: str | Path | None = None) -> None:
        self.roots = [Path.cwd()]
        self.names: dict[str, str] = {}
        if folder is not None:
            resolved = Path(folder).resolve()
            self.roots += resolved.parents
            self.names |= {str(resolved): OUTPUT, str(folder): OUTPUT}
        for key, value in (recipe or {}).items():
            if isinstance(value, str) and (name := self.value(key, value)) != value:
                self.names |= {value: name, str(Path(value).resolve()): name}
        self.names = {path: name for path, name in self.names.items() if re.search(r"[/\\]", path)}
        home = str(Path.home())
        if home.count("/") + home.count("\\") > 1 or len(home) > 4:
            self.names.setdefault(home, "~")

    def value(self, key: str | None, value: Any) -> Any:
        """Return a value of a recipe or configuration as others may read it; lists and mappings item by item."""
        if isinstance(value, Mapping):
            return {name: self.value(str(name), one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(key, one) for one in value]
        if not isinstance(value, str) or not value or value.startswith(_NO_PATHS):
            return value
        if key in _OUTPUTS:
            return OUTPUT
        if value in self.names:
            return self.names[value]
        if key in _MODELS and self._is_local(value, True):
            return key  # another run's folder, whose name may be a customer's too
        return file_name(value) if key in _PATHS or self._is_local(value) else value

    def _is_local(self, text: str, names_model: bool = False) -> bool:
        if re.match(r"/[^/]+.*\w|~[/\\]|\.\.?[/\\]|[A-Za-z]:[/\\]|\\\\\w|file:/", text):
            return True
        if names_model and (text.count("/") > 1 or "\\" in text):
            return True
        if "\n" in text or not ("/" in text or names_model):
            return False
        return any((root / text).exists() for root in self.roots)

    def recipe(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a recipe without paths and tokens."""
        return {key: self.value(key, value) for key, value in values.items() if key not in _SECRETS}

    def recipe_text(self, text: str) -> str:
        """Return the text of a recipe without paths and tokens."""
        values = yaml.safe_load(text)
        if not isinstance(values, Mapping):
            return self.text(text)
        return yaml.safe_dump(self.recipe(values), sort_keys=False, allow_unicode=True)

    def command(self, command: str) -> str:
        """Return a shell command without paths and tokens."""
        try:
            tokens = shlex.split(command)
        except ValueError:  # no shell's quotes
            return self.text(command)
        return shlex.join(self._tokens(tokens))

    def _tokens(self, tokens: Sequence[str]) -> list[str]:
        kept = []
        key = "recipe"
        for place, token in enumerate(tokens):
            if token.startswith("--"):
                key, equals, value = token[2:].partition("=")
                key = key.replace("-", "_")
                token = f"--{key}={self.value(key, value)}" if equals else token
            elif token != "-m" and (place and tokens[place - 1] != "-m"):
                token = self.value(key, token)
            if key not in _SECRETS:
                kept.append(token)
        return kept

    def text(self, text: str) -> str:
        """Return any text with the run's paths, and whatever else looks like a local path, reduced to names."""
        pieces = _PICTURE.split(text)
        return "".join(piece if place % 2 else self._plain_text(piece) for place, piece in enumerate(pieces))

    def _plain_text(self, text: str) -> str:
        text = _SECRET_SAID.sub("", _OUTPUT_SAID.sub(rf"\g<1>{OUTPUT}", text))
        for path in sorted(self.names, key=len, reverse=True):
            for written in {path, html.escape(path)}:
                text = text.replace(written, self.names[path])
        return _PATH.sub(lambda match: file_name(match[0]), text)


def started_from(models: Sequence[str | None], paths: LocalPaths) -> list[str]:
    """Return what a card calls the models that a recipe starts from; a folder is not named, whoever it is about.

    Args:
        models: as recipes name them; None: there is none.
        paths: of the run.
    """
    told = []
    for model in filter(None, models):
        package = HUB_NAMES.get(model.removeprefix(PREFIX)) if model.startswith(PREFIX) else None
        is_public = ":" in model or paths.value("text_model", model) == model
        told.append(f"`{package or model}`" if is_public else "a local checkpoint")
    return list(dict.fromkeys(told))


def hub_names(models: Sequence[str | None], paths: LocalPaths) -> list[str]:
    """Return the names on the Hub of models that a recipe starts from; folders and weights of torchvision have none.

    Args:
        models: as recipes name them; None: there is none.
        paths: of the run.
    """
    found = []
    for model in models:
        if model and model.startswith(PREFIX):
            found.append(HUB_NAMES.get(model.removeprefix(PREFIX)))
        elif model and ":" not in model and paths.value("text_model", model) == model:
            found.append(model)
    return [name for name in found if name]
