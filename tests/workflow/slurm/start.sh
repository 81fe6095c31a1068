#!/usr/bin/env bash
# Bring up a real Slurm cluster of four nodes on this machine's loopback, without systemd and without accounting.
# usage: start.sh FOLDER     needs root and Debian's slurm-wlm and munge; end it with stop.sh FOLDER.
#
# Nodes cpu1, cpu2, gpu1, gpu2, each with a slurmd of its own; partitions cpu, gpu, and urgent, which pre-empts both.
# Every task appends a line to FOLDER/tasks.tsv before it starts: job, partition, node, number of restarts, cores,
# memory (MB), time limit (minutes), CUDA_VISIBLE_DEVICES, comment (the rule).
set -euo pipefail
folder=$(realpath -m "$1")
host=$(hostname -s)
cpus=4 memory_mb=100000 # pretended: a node has what the jobs ask for, whatever this machine has

if [ -e /etc/slurm/slurm.conf ] && [ ! -L /etc/slurm/slurm.conf ]; then
    echo "This machine has a Slurm configuration of its own; nothing was started." >&2
    exit 1
fi
if [ -L /etc/slurm/slurm.conf ]; then # a cluster that was not stopped
    "$(dirname "$0")/stop.sh" "$(dirname "$(readlink /etc/slurm/slurm.conf)")"
fi
mkdir -p "$folder"/{state,spool/{cpu1,cpu2,gpu1,gpu2}} /etc/slurm

# munged refuses a key that others can read; its socket has to be reachable by all.
chmod 755 "$folder"
(umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"

# Short times, so that tests need not wait: a node is down 10 s after its last word, and what is put back into the
# queue waits until the old job's credential has expired.
cat > "$folder/slurm.conf" <<CONF
ClusterName=trial
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=26817
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
SlurmdTimeout=10
KillWait=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$folder/record.sh
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
GresTypes=gpu
NodeName=cpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26821 CPUs=$cpus CoresPerSocket=$cpus RealMemory=$memory_mb
NodeName=cpu2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26822 CPUs=$cpus CoresPerSocket=$cpus RealMemory=$memory_mb
NodeName=gpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26823 CPUs=$cpus CoresPerSocket=$cpus RealMemory=$memory_mb Gres=gpu:1
NodeName=gpu2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26824 CPUs=$cpus CoresPerSocket=$cpus RealMemory=$memory_mb Gres=gpu:1
PartitionName=cpu Nodes=cpu1,cpu2 Default=YES
PartitionName=gpu Nodes=gpu1,gpu2
PartitionName=urgent Nodes=ALL PriorityTier=10
CONF

cat > "$folder/record.sh" <<'RECORD'
#!/bin/sh
[ "$SLURM_STEP_ID" = 0 ] || exit 0 # the script that starts the task
asked=$(squeue --noheader --jobs "$SLURM_JOB_ID" --Format RestartCnt:10,MinMemory:10,TimeLimit:15,Comment:500)
printf '%s\t' "$SLURM_JOB_ID" "$SLURM_JOB_PARTITION" "$SLURMD_NODENAME" > "FOLDER/task.$$"
echo "$asked" | awk -v OFS='\t' -v cores="$SLURM_CPUS_PER_TASK" -v devices="${CUDA_VISIBLE_DEVICES-}" '{
    days = split($3, day, "-") == 2 ? day[1] : 0
    parts = split(day[days ? 2 : 1], part, ":")
    minutes = parts == 3 ? 60 * part[1] + part[2] : part[1]
    print $1, cores, substr($2, 1, length($2) - 1), 1440 * days + minutes, devices, $4
}' >> "FOLDER/task.$$"
cat "FOLDER/task.$$" >> FOLDER/tasks.tsv
rm "FOLDER/task.$$"
RECORD
sed -i "s|FOLDER|$folder|g" "$folder/record.sh"
chmod +x "$folder/record.sh"

# A GPU needs a device file of its own before Slurm hands it out and sets CUDA_VISIBLE_DEVICES; null devices do.
: > "$folder/gres.conf"
for node in gpu1 gpu2; do
    mknod "$folder/$node" c 1 3
    echo "NodeName=$node Name=gpu File=$folder/$node Flags=nvidia_gpu_env" >> "$folder/gres.conf"
done
echo "CgroupAutomount=no" > "$folder/cgroup.conf"

# The executor takes every SLURM_ variable out of a job's environment, SLURM_CONF too: the configuration must lie at
# the place that is compiled in.
for name in slurm.conf gres.conf cgroup.conf; do
    ln -sfn "$folder/$name" "/etc/slurm/$name"
done
slurmctld -i
for node in cpu1 cpu2 gpu1 gpu2; do
    slurmd -N "$node"
done

for _ in $(seq 60); do
    if [ "$(sinfo --noheader --Node --partition urgent --states idle --format %N 2>/dev/null | wc -l)" = 4 ]; then
        exit 0
    fi
    sleep 0.5
done
echo "The nodes did not become idle in 30 s; see the logs in $folder." >&2
exit 1
