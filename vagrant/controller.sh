#!/usr/bin/env bash
# Starts the controller and makes a token per host, in /foreweave/vagrant/tokens.
set -euo pipefail
address=$1
nodes=$2
state=/var/lib/foreweave
mkdir -p "$state" /foreweave/vagrant/tokens
cat > /etc/foreweave-controller.toml <<TOML
region = "vagrant"
listen = ["0.0.0.0:7447"]
advertise = ["$address:7447"]
state = "$state"
TOML
systemctl stop foreweave-controller 2> /dev/null || true
systemd-run --unit foreweave-controller --property Restart=always \
  /foreweave/target/release/foreweave-controller run --config /etc/foreweave-controller.toml
until [ -f "$state/admin.toml" ]; do sleep 0.2; done
cp "$state/admin.toml" /foreweave/vagrant/tokens/admin.toml
for node in $nodes; do
  /foreweave/target/release/foreweave --config "$state/admin.toml" --json node add "$node" \
    | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p' > "/foreweave/vagrant/tokens/$node"
done
