#!/usr/bin/env bash
# Configures a host's underlay interfaces as the topology says, enrols its agent and starts it.
# Arguments: NAME, then NETWORK|MTU|ADDRESS/LENGTH,…|RATE|DELAY|LOSS for each underlay (bit/s, ns, per million).
set -euo pipefail
name=$1
shift
binaries=/foreweave/target/release
state=/var/lib/foreweave-agent
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mkdir -p "$state"
printf 'state = "%s"\n' "$state" > /etc/foreweave-agent.toml

# Vagrant's own interface and the management network come first; the underlays follow in the order of the topology.
mapfile -t interfaces < <(ls -1v /sys/class/net | grep -E '^(eth|en)' | tail -n +3)
index=0
for underlay in "$@"; do
  IFS='|' read -r network mtu addresses rate delay loss <<< "$underlay"
  interface=${interfaces[$index]}
  index=$((index + 1))
  ip link set "$interface" mtu "$mtu" up
  for address in ${addresses//,/ }; do ip address replace "$address" dev "$interface"; done
  shape=()
  [ "$delay" = 0 ] || shape+=(delay "${delay}ns")
  [ "$loss" = 0 ] || shape+=(loss "$(awk "BEGIN { print $loss / 10000 }")%")
  [ "$rate" = 0 ] || shape+=(rate "${rate}bit")
  [ ${#shape[@]} = 0 ] || tc qdisc replace dev "$interface" root netem limit 100000 "${shape[@]}"
  printf '\n[[underlay]]\ninterface = "%s"\nnetwork = "%s"\n' "$interface" "$network" >> /etc/foreweave-agent.toml
done

[ -f "$state/identity.toml" ] || "$binaries/foreweave-agent" enrol --token-file "/foreweave/vagrant/tokens/$name" --state "$state"
systemctl stop foreweave-agent 2> /dev/null || true
systemd-run --unit foreweave-agent --property Restart=always \
  "$binaries/foreweave-agent" run --config /etc/foreweave-agent.toml
