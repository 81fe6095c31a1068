#!/usr/bin/env bash
# End the cluster that start.sh FOLDER brought up: its three daemons, by process id, and its links in /etc/slurm.
set -u
folder=$(realpath -m "$1")

for daemon in slurmd slurmctld munged; do
    pid=$(cat "$folder/$daemon.pid" 2>/dev/null) || continue
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$daemon" ] || continue # the number may have gone to another process
    kill "$pid"
    for _ in $(seq 60); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.5
    done
done
for name in slurm.conf gres.conf cgroup.conf; do
    [ "$(readlink "/etc/slurm/$name")" != "$folder/$name" ] || rm "/etc/slurm/$name"
done
