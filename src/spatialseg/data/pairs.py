"""Maps and masks on disk, paired by name: those of some methods on some data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spatialseg.data.files import few, list_images
from spatialseg.hints import did_you_mean
from spatialseg.strict_yaml import read_yaml


class ScoringError(Exception):
    """Files that cannot be scored; the message names them."""


@dataclass(frozen=True)
class Files:
    """The images in a folder, called by what stands between a prefix and a suffix of their stems.

    Args:
        folder: Where they are; not its subfolders.
        prefix: How the stems begin; other files are passed over.
        suffix: How the stems end, such as `_sal`; other files are passed over.
    """

    folder: Path
    prefix: str = ""
    suffix: str = ""

    def by_name(self) -> dict[str, Path]:
        """Return the files by name.

        Raises:
            ScoringError: There is no such folder or no such file, two have one name, or some cannot be read.
        """
        if not self.folder.is_dir():
            raise ScoringError(f"{self.folder} is no folder")
        found, problems = list_images(self.folder)
        begin, end = len(self.prefix), len(self.suffix)
        here = {
            name[begin : len(name) - end]: Path(path)
            for name, path in found.items()
            if "/" not in name
            and name.startswith(self.prefix)
            and name.endswith(self.suffix)
            and len(name) > begin + end
        }
        if problems or not here:
            called = f" called {self.prefix}…{self.suffix}" if begin + end else ""
            raise ScoringError("; ".join(problems) or f"{self.folder} holds no image{called}")
        return here


Place = Path | Files
Maps = Place | Mapping[str, Place]
"""Where a method's maps are: of the one data set; or the folder of those named after the data sets; or of each."""


@dataclass(frozen=True)
class Pairs:
    """The maps of a method for the masks of a data set."""

    method: str
    dataset: str
    files: dict[str, tuple[Path, Path]]
    """Map and mask of each image, sorted by name."""
    missing: list[str]
    """Masks without a map."""
    extra: list[str]
    """Maps without a mask."""


def find_pairs(pred: Mapping[str, Maps], gt: Mapping[str, Place], skip_missing: bool = False) -> list[Pairs]:
    """Pair the maps of methods with the masks of data sets.

    Raises:
        ScoringError: Files or folders are missing or ambiguous; names them.
    """
    found = []
    for method, maps in pred.items():
        for dataset, masks in gt.items():
            truth, place = _files(masks), _of(maps, dataset, len(gt) > 1, method)
            there, here = truth.by_name(), place.by_name()
            missing = sorted(there.keys() - here.keys())
            if missing and not skip_missing:
                raise ScoringError(
                    f"{method} on {dataset}: {len(there)} masks, without a map in {place.folder} {few(missing)}; "
                    "add them, or score the others with --missing skip"
                )
            files = {name: (here[name], there[name]) for name in sorted(there.keys() & here.keys())}
            if not files:
                raise ScoringError(
                    f"{method} on {dataset}: no map in {place.folder} has the name of a mask in {truth.folder}"
                )
            found.append(Pairs(method, dataset, files, missing, sorted(here.keys() - there.keys())))
    return found


def _files(place: Place) -> Files:
    return place if isinstance(place, Files) else Files(place)


def _of(maps: Maps, dataset: str, several: bool, method: str) -> Files:
    """Return where the maps for a data set are."""
    if isinstance(maps, Mapping):
        if dataset not in maps:
            raise ScoringError(f"{method} has no maps for {dataset}, only for {', '.join(maps)}")
        return _files(maps[dataset])
    one = _files(maps)
    return Files(one.folder / dataset, one.prefix, one.suffix) if several else one


def named_folders(values: Sequence[str], prefix: str = "", suffix: str = "") -> dict[str, Files]:
    """Read `name=folder` or `folder`, whose name is then that of the folder.

    Raises:
        ScoringError: Two have one name.
    """
    folders: dict[str, Files] = {}
    for value in values:
        *given, folder = value.split("=", 1)
        path = Path(folder)
        name = given[0] if given else path.resolve().name
        if name in folders:
            first = folders[name].folder
            raise ScoringError(f"two folders are called {name!r}; name them: {name}1={first} {name}2={path}")
        folders[name] = Files(path, prefix, suffix)
    return folders


def read_pairs(path: Path) -> tuple[dict[str, Maps], dict[str, Place]]:
    """Read from a YAML file where methods and data sets are; its relative paths start at its own folder.

    It holds two mappings, `datasets` and `methods`, of names to folders; `{folder: maps, prefix: map_, suffix: _sal}`
    stands for some files of a folder. A method's folder holds folders named after the data sets; where there is but one
    data set it holds the maps; and `{ecssd: results/e, person: {folder: results/p, suffix: _sal}}` says where each is.

    Raises:
        ScoringError: The file cannot be read, or says something else.
    """
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScoringError(f"{path} cannot be read: {error}") from None
    wanted = {"datasets", "methods"}
    if not isinstance(content, dict) or content.keys() != wanted or not all(map(_named, content.values())):
        raise ScoringError(f"{path} must say by name where `datasets` and `methods` are, and nothing else")
    datasets: dict[str, Place] = {name: _place(value, path.parent, path) for name, value in content["datasets"].items()}
    methods: dict[str, Maps] = {}
    for name, value in content["methods"].items():
        if isinstance(value, dict) and "folder" not in value:
            for dataset in value.keys() - datasets.keys():
                raise ScoringError(f"{path}: there is no data set {dataset!r}{did_you_mean(dataset, datasets)}")
            methods[name] = {dataset: _place(each, path.parent, path) for dataset, each in value.items()}
        else:
            methods[name] = _place(value, path.parent, path)
    return methods, datasets


def _named(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and bool(value) and all(isinstance(name, str) for name in value)


def _place(value: Any, base: Path, source: Path) -> Files:  # noqa: ANN401
    given = value if isinstance(value, dict) else {"folder": value}
    unknown = given.keys() - {"folder", "prefix", "suffix"}
    if unknown or not all(isinstance(each, str) for each in given.values()) or "folder" not in given:
        raise ScoringError(f"{source}: expected a folder, or `folder` with `prefix` and `suffix`, got {value!r}")
    return Files(base / given["folder"], given.get("prefix", ""), given.get("suffix", ""))
