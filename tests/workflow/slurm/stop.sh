#!/usr/bin/env bash
# End the cluster that start.sh FOLDER brought up: its jobs, its daemons by process id, and its links in /etc/slurm.
set -u
folder=$(realpath -m "$1")

end() { # end a daemon: its name, the file with its process id
    local pid
    pid=$(cat "$2" 2>/dev/null) || return
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || return # the number may have gone to another process
    kill "$pid"
    for _ in $(seq 60); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.5
    done
}

if [ "$(readlink /etc/slurm/slurm.conf)" = "$folder/slurm.conf" ]; then
    # A cancelled job that waits for storage or a lost node ends with it.
    timeout 10 scancel --user root
    for _ in $(seq 20); do
        [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break
        sleep 0.5
    done
fi
for node in cpu1 cpu2 gpu1 gpu2; do
    end slurmd "$folder/slurmd.$node.pid"
done
end slurmctld "$folder/slurmctld.pid"
end munged "$folder/munged.pid"
for name in slurm.conf gres.conf cgroup.conf; do
    [ "$(readlink "/etc/slurm/$name")" != "$folder/$name" ] || rm "/etc/slurm/$name"
done
