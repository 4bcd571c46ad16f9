"""YAML that says each thing once, and in which 1e-3 is a number."""

import re
from collections.abc import Hashable
from typing import Any

import yaml


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(name, str):
                if name in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {name!r} stands twice", problem_mark=key.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(  # which YAML 1.1 leaves a text unless it is written 1.0e-3, and jsonargparse reads
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:  # noqa: ANN401
    """Return what a text says, refusing a mapping in which a key stands twice, of which YAML takes the second.

    Raises:
        yaml.YAMLError: It is no YAML, a key stands twice, or it is nested too deeply.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
