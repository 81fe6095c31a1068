#!/usr/bin/env bash
# Bring up a real Slurm cluster of one node on this machine's loopback, without systemd and without accounting.
# usage: start.sh FOLDER     needs root and Debian's slurm-wlm and munge; end it with stop.sh FOLDER.
#
# Every task appends a line to FOLDER/tasks.tsv before it starts: job, partition, CUDA_VISIBLE_DEVICES, comment (the rule).
set -euo pipefail
folder=$(realpath -m "$1")
node=$(hostname -s)
cpus=8 gpus=2 memory_mb=200000 # pretended: the node has what the jobs ask for, whatever this machine has

if [ -e /etc/slurm/slurm.conf ] && [ ! -L /etc/slurm/slurm.conf ]; then
    echo "This machine has a Slurm configuration of its own; nothing was started." >&2
    exit 1
fi
if [ -L /etc/slurm/slurm.conf ]; then # a cluster that was not stopped
    "$(dirname "$0")/stop.sh" "$(dirname "$(readlink /etc/slurm/slurm.conf)")"
fi
mkdir -p "$folder"/{state,spool} /etc/slurm

# munged refuses a key that others can read; its socket has to be reachable by all.
chmod 755 "$folder"
(umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"

cat > "$folder/slurm.conf" <<CONF
ClusterName=trial
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$folder/record.sh
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
GresTypes=gpu
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus CoresPerSocket=$cpus RealMemory=$memory_mb Gres=gpu:$gpus
PartitionName=cpu Nodes=$node Default=YES
PartitionName=gpu Nodes=$node
CONF

cat > "$folder/record.sh" <<'RECORD'
#!/bin/sh
comment=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %k)
printf '%s\t%s\t%s\t%s\n' "$SLURM_JOB_ID" "$SLURM_JOB_PARTITION" "${CUDA_VISIBLE_DEVICES-}" "$comment" >> FOLDER/tasks.tsv
RECORD
sed -i "s|FOLDER|$folder|" "$folder/record.sh"
chmod +x "$folder/record.sh"

# A GPU needs a device file of its own before Slurm hands it out and sets CUDA_VISIBLE_DEVICES; null devices do.
: > "$folder/gres.conf"
for number in $(seq 0 $((gpus - 1))); do
    mknod "$folder/gpu$number" c 1 3
    echo "NodeName=$node Name=gpu File=$folder/gpu$number Flags=nvidia_gpu_env" >> "$folder/gres.conf"
done
echo "CgroupAutomount=no" > "$folder/cgroup.conf"

# The executor takes every SLURM_ variable out of a job's environment, SLURM_CONF too: the configuration must lie at
# the place that is compiled in.
for name in slurm.conf gres.conf cgroup.conf; do
    ln -sfn "$folder/$name" "/etc/slurm/$name"
done
slurmctld -i
slurmd -N "$node"

for _ in $(seq 60); do
    if [ "$(sinfo --noheader --partition cpu --format %t 2>/dev/null)" = idle ]; then
        exit 0
    fi
    sleep 0.5
done
echo "The node did not become idle in 30 s; see the logs in $folder." >&2
exit 1
