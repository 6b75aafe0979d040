#!/bin/sh
# Customize hook of mmdebstrap: turn the root tree "$1" into a Vagrant guest that KEY_PUB logs in to.
# The same trims as the lab's own image, so that the tools are compared and not the guests.
set -eu
root=$1
chroot "$root" useradd -m -s /bin/bash vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
install -m 600 "$KEY_PUB" "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant:vagrant /home/vagrant
echo 'vagrant ALL=(ALL) NOPASSWD:ALL' > "$root/etc/sudoers.d/vagrant"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' > "$root/etc/systemd/network/10-dhcp.network"
chroot "$root" systemctl --quiet enable systemd-networkd
chroot "$root" systemctl --quiet mask e2scrub_reap systemd-timesyncd systemd-resolved \
    systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer
