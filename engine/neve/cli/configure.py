"""`neve configure`: the settings of an index."""

from __future__ import annotations

import argparse
import json

from neve.api.options import CallOptions
from neve.api.render import to_json
from neve.cli.command import print_table
from neve.cli.service import Commands, add_index_command, address, service
from neve.index.settings import SETTINGS

_DESCRIPTION = """\
Show or change the settings of an index. They are kept in its log: every query that starts after the change
goes by them, on any machine.

    neve configure library/books                     show them
    neve configure library/books recall=0.99         change one or several
    neve configure library/books recall=             back to the default

    recall    the share of the true nearest vectors that a query is to find, on average:
              0.5 to 0.999, default 0.98. More costs more lists, bytes and time; `neve recall` measures it.
    compact   whether servers compact the index in the background: 1 (default) or 0.
              `neve compact` does it when told to, whatever the setting.
"""


def register(commands: Commands) -> None:
    parser = add_index_command(commands, "configure", "show or change the settings of an index", _DESCRIPTION)
    parser.add_argument("settings", nargs="*", type=_assignment, metavar="NAME=VALUE", help="what to change")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    members = address(args) | ({"settings": dict(args.settings)} if args.settings else {})
    with service(args) as opened:
        answer = to_json(opened.call("ConfigureIndex", members, CallOptions()))
    if args.json:
        print(json.dumps(answer))
        return 0
    values = answer["settings"]
    assert isinstance(values, dict)
    rows = [(name, f"{value:g}", f"{SETTINGS[name].default:g}", SETTINGS[name].range) for name, value in values.items()]
    print_table("/".join(args.name), ("setting", "value", "default", "may be"), rows)
    return 0


def _assignment(text: str) -> tuple[str, float | None]:
    """NAME=VALUE, or NAME= for the default."""
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, float(value) if value else None
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER (or NAME= for the default)")
