"""The environment in which Pulumi runs for this checkout, by `./lab` and by hand alike.

Whoever has a Pulumi login of their own keeps it; otherwise home and state lie below `.lab`.
Likewise the passphrase of the stacks' secrets: the user's own, else a random one in `.lab`.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from machine.errors import RequirementError
from machine.paths import CHECKOUT, DEFAULT_STACK, stack_paths
from machine.process import exclusive, write_private
from machine.surroundings import SET, local_grpc
from machine.toolchain import PLUGIN, Tools, locate
from machine.versions import LIBVIRT_PLUGIN

MARK: Final = "ETCD_LAB_CHECKOUT"
"""Says which checkout set the variables, so that another one does not take them for the user's."""


def pulumi_env(stack: str = DEFAULT_STACK, *, checkout: Path = CHECKOUT, tools: Tools | None = None) -> dict[str, str]:
    """Variables to add to the environment, so that `pulumi` and `pytest` work on `stack`.

    Makes the passphrase when there is none, and puts the libvirt plugin where Pulumi looks for it.
    Raises RequirementError when the tool chain is missing or the passphrase was lost.
    """
    stack_paths(stack, checkout)  # refuses an illegal name
    found = tools or locate()
    if found is None:
        raise RequirementError(
            "The tool chain (Pulumi, libvirt plugin) is not there", where="PATH and cache", next="Run ./lab setup."
        )
    environment = {
        "PATH": _path(found.bin),
        "VIRTUAL_ENV": str(_python_environment()),
        "PULUMI_PYTHON_CMD": str(_python_environment() / "bin" / "python"),
        "PULUMI_SKIP_UPDATE_CHECK": "1",
        "PULUMI_ERROR_OUTPUT_STRING": "1",  # str() of an output is an error, not a warning in a file
        "PULUMI_STACK": stack,
        MARK: str(checkout),
        **{name: value for name, value in SET.items() if name.startswith("PYTHON")},
        **local_grpc(os.environ),
    }
    own_home = checkout / ".lab" / "pulumi"
    if not has_own_login(checkout):
        (checkout / ".lab" / "state").mkdir(parents=True, exist_ok=True)
        environment |= _ours(checkout)
        home = own_home
    else:
        home = Path(_users("PULUMI_HOME") or Path.home() / ".pulumi")
    if not has_own_passphrase():
        environment["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(ensure_passphrase(checkout))
    _link_plugin(home, found.plugin)
    return environment


def has_own_login(checkout: Path = CHECKOUT) -> bool:
    """Whether the user has chosen a Pulumi backend: by variable, or by login.

    A checkout that has state of its own keeps using it when a login comes later, since its labs
    would be lost from sight otherwise; the variable still overrides.
    """
    if _users("PULUMI_BACKEND_URL"):
        return True
    if (checkout / ".lab" / "state" / ".pulumi").exists():
        return False
    if os.environ.get("PULUMI_ACCESS_TOKEN"):
        return True
    home = Path(_users("PULUMI_HOME") or Path.home() / ".pulumi")
    try:
        return bool(json.loads((home / "credentials.json").read_text()).get("current"))
    except (OSError, ValueError, AttributeError):
        return False


def has_own_passphrase() -> bool:
    """Whether the user has said what the passphrase is."""
    return "PULUMI_CONFIG_PASSPHRASE" in os.environ or bool(_users("PULUMI_CONFIG_PASSPHRASE_FILE"))


def passphrase_file(checkout: Path = CHECKOUT) -> Path:
    """Where the passphrase of this checkout's stacks is kept."""
    return checkout / ".lab" / "passphrase"


def has_stacks(checkout: Path = CHECKOUT) -> bool:
    """Whether this checkout's own state holds a stack."""
    return any((checkout / ".lab" / "state" / ".pulumi" / "stacks").rglob("*.json"))


def ensure_passphrase(checkout: Path = CHECKOUT) -> Path:
    """The passphrase file, made with 256 random bits when there is none.

    Raises RequirementError when stacks exist and the file is gone: a new one would not open them.
    """
    path = passphrase_file(checkout)
    with exclusive(path.with_name(".passphrase.lock")):
        if path.exists():
            path.chmod(0o600)
            return path
        if has_stacks(checkout):
            raise RequirementError(
                "The passphrase is gone, and the stacks' secrets cannot be read without it",
                where=str(path),
                next="Put the file back; or give the labs up: ./lab sweep lists what runs, then remove .lab/state.",
            )
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return path


def _ours(checkout: Path) -> dict[str, str]:
    lab = checkout / ".lab"
    return {"PULUMI_HOME": str(lab / "pulumi"), "PULUMI_BACKEND_URL": f"file://{lab / 'state'}"}


def _users(name: str) -> str:
    """Value of a variable that the user has set: not one that `./lab env` of a checkout has."""
    value = os.environ.get(name, "")
    setter = os.environ.get(MARK)
    if setter:
        set_by_lab = {**_ours(Path(setter)), "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase_file(Path(setter)))}
        if value == set_by_lab.get(name):
            return ""
    return value


def _python_environment() -> Path:
    """The environment of the Python that runs this: the checkout's .venv when started by ./lab."""
    return Path(sys.prefix)


def _path(tools: Path) -> str:
    """PATH with the Python environment and the tools in front, each once."""
    first = [str(_python_environment() / "bin"), str(tools)]
    rest = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part and part not in first]
    # libvirtd, mkisofs and the like may lie where only root's PATH looks.
    system = [part for part in ("/usr/sbin", "/sbin") if part not in rest]
    return os.pathsep.join([*first, *rest, *system])


def _link_plugin(home: Path, plugin: Path) -> None:
    """Let Pulumi find the plugin in its home: a directory of its own with a link to the program."""
    place = home / "plugins" / f"resource-libvirt-v{LIBVIRT_PLUGIN}"
    link = place / PLUGIN
    if link.exists() and (not link.is_symlink() or link.resolve() == plugin.resolve()):
        return
    place.mkdir(parents=True, exist_ok=True)
    fresh = place / f".{PLUGIN}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(plugin)
    fresh.replace(link)
