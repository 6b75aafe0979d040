"""The Pulumi program: settings -> machines -> etcd on them -> outputs."""

import pulumi

from deploy import trial
from deploy.pki import make_pki
from deploy.resource import EtcdCluster, client_files
from infra import program, settings
from infra.lab import Lab
from machine.log import say

with program.short_errors():
    config = settings.from_config()
    stack = program.current()
    parts = program.prepare(config)
    for warning in trial.check(parts.etcd, config.etcd_extra, say, where=f"stack {stack.stack}").warnings:
        pulumi.warn(warning)

    addresses = dict(zip(config.node_names, map(str, config.addresses), strict=True))
    pki = make_pki(addresses, stack=stack.stack)
    lab = Lab("lab", settings=config, paths=stack, parts=parts, client_files=client_files(pki, stack))
    etcd = EtcdCluster(
        "etcd",
        manifest=lab.manifest,
        pki=pki,
        source=config.etcd_version,
        instances=lab.ready.instances,
        opts=pulumi.ResourceOptions(depends_on=[lab]),
    )

    pulumi.export("manifest", lab.manifest)
    pulumi.export("endpoints", [f"https://{address}:2379" for address in addresses.values()])
    pulumi.export("changed", etcd.changed)
    pulumi.export("seconds", {"machines": lab.ready.seconds_taken, "etcd": etcd.seconds})
